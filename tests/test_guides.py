"""Guides of a task are run as they stand, from top to bottom, in an empty folder.

Blocks of `bash` and `python` run one after another; one with a name is saved under it instead.
Every line of a `text` block must be printed, in order; spaces count as one, and a page's ports are
free ones.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

GUIDES = sorted((Path(__file__).parent.parent / "docs/guides/tasks").glob("*.md"))
BLOCK = re.compile(r"^```(bash|python|text)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PORTS = ("8787", "8788")
SECONDS = 300


def written(guide: Path, folder: Path) -> tuple[str, list[str]]:
    """The script that a guide is, and the lines that it must print; its files are written."""
    serve = f"habitue serve --port {PORTS[0]}"
    text = guide.read_text().replace("habitue serve", serve)
    for port in PORTS:
        text = text.replace(port, str(free_port()))
    script, lines = ["set -euo pipefail"], []
    for number, (kind, name, body) in enumerate(BLOCK.findall(text)):
        if kind == "text":
            lines += body.splitlines()
        elif kind == "bash":
            script.append(body)
        else:
            (folder / (name or f"block{number}.py")).write_text(body)
            script += [] if name else [f"python3 block{number}.py"]
    return "\n".join(script), lines


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def missing(lines: list[str], output: str) -> list[str]:
    """Lines that were not printed behind those before them."""
    said, absent = " ".join(output.split()), []
    for line in lines:
        _, found, rest = said.partition(" ".join(line.split()))
        if found:
            said = rest
        else:
            absent.append(line)
    return absent


def run(script: str, folder: Path) -> tuple[int, str]:
    """How a script ended and all that it said; what it left in the background is ended, too."""
    found = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    said = folder / "said.txt"
    with said.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-c", script], cwd=folder, env=os.environ | {"PATH": found},
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            code = -1
        end(process.pid)
        process.wait()
    return code, said.read_text()


def end(group: int) -> None:
    """End every process of a group, and see it gone."""
    deadline, told = time.monotonic() + 20, int(signal.SIGTERM)
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.killpg(group, told)
            time.sleep(0.2)
            told = signal.SIGKILL if time.monotonic() > deadline else 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="guides are shown with curl")
@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_guide_can_be_followed_as_it_stands(guide, tmp_path):
    script, lines = written(guide, tmp_path)
    code, output = run(script, tmp_path)
    assert code == 0, output
    assert not missing(lines, output), output


def test_a_guide_that_says_what_is_not_so_fails(tmp_path):
    (guide := tmp_path / "guide.md").write_text(
        "```bash\necho one   two\n```\n```text\none two\n```\n```python\nprint(3)\n```\n"
        "```text\n3\none two\n```\n"
    )
    script, lines = written(guide, tmp_path)
    code, output = run(script, tmp_path)
    assert code == 0
    assert missing(lines, output) == ["one two"]
    assert run("set -e\nfalse\ntrue", tmp_path)[0] == 1
