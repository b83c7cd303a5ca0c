"""The entry point: the list of commands, and what becomes of errors."""

import logging
import os
import sys
from collections.abc import Sequence

import click

from habitue import __version__
from habitue.cli import ask, demo, evaluate, serve, simulate, store, train
from habitue.cli.data import (
    audiences,
    keeping,
    keys,
    memberships,
    people,
    privacy,
    rejected,
    rules,
    status,
    streams,
)
from habitue.cli.operate import answer, audit, doctor
from habitue.config import limit_threads, load_settings
from habitue.errors import HabitueError

SIGINT_CODE = 130


class InOrder(click.Group):
    """Commands listed in the order of the work, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names as they were added."""
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="habitue")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what is being done.")
def habitue(verbose: bool) -> None:
    """Who will buy, when, how much and what.

    A workspace is a folder with one or many shops. Import a shop's orders, train a model, ask it.
    Times are dates (their first instant) or ISO 8601; a time without a zone is in UTC. Data goes
    to stdout, all else to stderr; --json is for programs.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(name)s %(message)s",
    )
    limit_threads(load_settings().threads)


for command in (
    demo.demo,
    store.import_,
    streams.watch,
    streams.consume,
    serve.serve,
    serve.follow,
    serve.score,
    answer.answer,
    status.status,
    keys.keys,
    keys.names,
    keys.currency,
    audit.audit,
    doctor.doctor,
    rejected.rejected,
    rejected.replay,
    store.shops,
    train.train,
    evaluate.evaluate,
    ask.predict,
    ask.why,
    ask.ask,
    ask.embed,
    audiences.audience,
    audiences.audiences,
    memberships.members,
    memberships.changes,
    memberships.deliver,
    ask.recommend,
    rules.rules,
    ask.items,
    train.models,
    train.promote,
    store.query,
    people.customer,
    people.links,
    people.link,
    people.unlink,
    people.conflicts,
    people.sources,
    privacy.export,
    privacy.erase,
    privacy.erasures,
    keeping.lake,
    store.compact,
    keeping.backup,
    keeping.restore,
    keeping.upgrade,
    simulate.simulate,
):
    habitue.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 it could not be done, 2 it was not understood."""
    sys.exit(_code(arguments))


def _code(arguments: Sequence[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        # click's own `main` would turn a closed pipe into a failure
        with habitue.make_context("habitue", given) as context:
            habitue.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as left:
        return left.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _refuse("interrupted", SIGINT_CODE)
    except HabitueError as error:
        return _refuse(f"error: {error}", 1)
    except BrokenPipeError:
        return _close_quietly()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(f"error: {where}{error.strerror or error}", 1)
    return 0


def _refuse(message: str, code: int) -> int:
    click.echo(message, err=True)
    return code


def _close_quietly() -> int:
    """Whoever read our output has read enough; Python must not complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    main()
