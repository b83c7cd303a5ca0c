import contextlib
import shutil
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitue.lake import index as module
from habitue.lake.index import DedupeIndex
from habitue.lake.tables import Lake
from tests.lake.small import event, filled

BOOT = "_BOOT"
ROOT = Path(__file__).parent.parent.parent
FILL = """
import sys
from tests.lake.test_index import digest, opened
with opened(sys.argv[1]) as index:
    index.add(map(digest, range(20_000)), sequence=1)
"""


def digest(number: int) -> bytes:
    return blake2b(number.to_bytes(8), digest_size=16).digest()


def opened(path) -> contextlib.closing:
    return contextlib.closing(DedupeIndex(path))


def booted(tmp_path, monkeypatch, name: str) -> None:
    """Let the machine have been started anew."""
    (tmp_path / "boot").write_text(name)
    monkeypatch.setattr(module, BOOT, tmp_path / "boot")


@settings(max_examples=25)
@given(
    batches=st.lists(st.sets(st.integers(0, 50)), max_size=5),
    asked=st.sets(st.integers(0, 60)),
    gone=st.sets(st.integers(0, 50), max_size=5),
)
def test_it_knows_what_a_set_would_know(tmp_path_factory, batches, asked, gone):
    with opened(tmp_path_factory.mktemp("index")) as index:
        twin: set[bytes] = set()
        for sequence, batch in enumerate(batches):
            index.add(map(digest, batch), sequence=sequence)
            twin |= {digest(number) for number in batch}
        index.forget(map(digest, gone))
        twin -= {digest(number) for number in gone}
        wanted = {digest(number) for number in asked}
        assert index.known(wanted) == wanted & twin
        assert index.sequence == len(batches) - 1


def test_it_outlives_its_process_and_a_kill(tmp_path):
    with opened(tmp_path) as index:
        index.add([digest(1)], sequence=7)
        (tmp_path / "copy").mkdir()
        for name in ("data.mdb", "in-use"):                # as a kill now would leave them
            shutil.copy(tmp_path / name, tmp_path / "copy")
    for path in (tmp_path, tmp_path / "copy"):
        with opened(path) as index:
            assert (index.known([digest(1), digest(2)]), index.sequence) == ({digest(1)}, 7)


def test_it_is_made_anew_if_the_machine_went_down_while_it_was_in_use(tmp_path, monkeypatch):
    path = tmp_path / "index"
    booted(tmp_path, monkeypatch, "first")
    with opened(path) as index:
        index.add([digest(1)], sequence=7)
        left = (path / "in-use").read_bytes()
    (path / "in-use").write_bytes(left)                    # nobody closed it
    booted(tmp_path, monkeypatch, "second")
    with opened(path) as index:
        assert (index.known([digest(1)]), index.sequence) == (set(), -1)


def test_it_stays_if_the_machine_was_started_anew_after_it_was_closed(tmp_path, monkeypatch):
    path = tmp_path / "index"
    booted(tmp_path, monkeypatch, "first")
    with opened(path) as index:
        index.add([digest(1)], sequence=7)
    booted(tmp_path, monkeypatch, "second")
    with opened(path) as index:
        assert (index.known([digest(1)]), index.sequence) == ({digest(1)}, 7)


def test_where_starts_have_no_names_only_a_closed_index_is_believed(tmp_path, monkeypatch):
    path = tmp_path / "index"
    monkeypatch.setattr(module, BOOT, tmp_path / "none")
    with opened(path) as index:
        index.add([digest(1)], sequence=7)
        left = (path / "in-use").read_bytes()
    with opened(path) as index:
        assert index.sequence == 7
    (path / "in-use").write_bytes(left)
    with opened(path) as index:
        assert index.sequence == -1


@pytest.mark.parametrize("torn", [b"", b"no database", b"\0" * 8192])
def test_a_damaged_index_is_made_anew(tmp_path, torn):
    lake = filled(Lake(tmp_path / "lake"), event("1", 0))
    with opened(tmp_path / "index") as index:
        index.catch_up(lake)
    (tmp_path / "index" / "data.mdb").write_bytes(torn)
    with opened(tmp_path / "index") as index:
        index.catch_up(lake)
        assert index.known([event("1", 0).digest])


def test_it_grows_as_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FIRST_MAP_BYTES", 128 << 10)
    digests = [digest(number) for number in range(30_000)]
    with opened(tmp_path) as index:
        index.add(digests, sequence=0)
        assert len(index.known(digests)) == 30_000
    with opened(tmp_path) as index:
        assert len(index.known(digests)) == 30_000


def test_it_adopts_the_size_that_another_process_gave_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FIRST_MAP_BYTES", 128 << 10)
    with opened(tmp_path) as index:
        index.add([digest(1)], sequence=0)
        subprocess.run([sys.executable, "-c", FILL, str(tmp_path)], check=True, cwd=ROOT)
        assert len(index.known(map(digest, range(20_000)))) == 20_000


def test_several_may_be_open_at_once(tmp_path):
    with opened(tmp_path) as one, opened(tmp_path) as other:
        one.add([digest(1)], sequence=0)
        assert other.known([digest(1)]) == {digest(1)}
    assert (tmp_path / "in-use").read_bytes() == b""


def test_it_learns_what_the_lake_holds_and_only_what_is_newer(tmp_path):
    lake = filled(Lake(tmp_path / "lake", buckets=1), event("1", 0))
    with opened(tmp_path / "index") as index:
        assert index.catch_up(lake) == 1
        filled(lake, event("2", 0))
        assert index.catch_up(lake) == 1
        assert index.catch_up(lake) == 0
        assert len(index.known([event(n, 0).digest for n in "123"])) == 2
        assert index.sequence == lake.sequence


def test_a_merge_teaches_nothing_new_to_who_knows_its_rows(tmp_path):
    lake = filled(Lake(tmp_path / "lake", buckets=1), event("1", 0))
    with opened(tmp_path / "index") as index:
        index.catch_up(lake)
        filled(lake, event("2", 0))
        lake.compact()
        assert index.catch_up(lake) == 1                   # the merged file holds a new row
        filled(lake, event("3", 0))
        index.catch_up(lake)
        lake.compact()
        assert index.catch_up(lake) == 0
        assert index.sequence == lake.sequence


def test_an_index_ahead_of_its_lake_forgets_what_never_happened(tmp_path):
    lake = filled(Lake(tmp_path / "lake"), event("1", 0))
    with opened(tmp_path / "index") as index:
        index.add([digest(1)], sequence=lake.sequence + 5)
        index.catch_up(lake)
        assert index.known([digest(1)]) == set()
        assert index.known([event("1", 0).digest])


def test_a_disk_that_is_full_leaves_the_rest_to_be_caught_up(tmp_path, monkeypatch):
    lake = filled(Lake(tmp_path / "lake"), event("1", 0))
    with opened(tmp_path / "index") as index:
        index.catch_up(lake)
        filled(lake, event("2", 0))

        def full(self, ordered):
            raise lmdb.DiskError("no space left")

        with monkeypatch.context() as patch:
            patch.setattr(module._Shared, "put", full)
            index.add([event("2", 0).digest], sequence=lake.sequence)
            with pytest.raises(OSError, match="no space left"):
                index.catch_up(lake)
        assert index.sequence < lake.sequence
        index.catch_up(lake)
        assert index.known([event("2", 0).digest])
