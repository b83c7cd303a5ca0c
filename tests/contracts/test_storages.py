"""What every storage of a lake promises. A new one adds a line to STORAGES."""

from collections.abc import Callable, Iterator
from itertools import count

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from habitue.lake.deltalog import storage_of
from habitue.lake.storage.bucket import object_place
from habitue.lake.storage.interface import Place
from tests.objectstore import object_store

Opener = Callable[[], Place]               # called again, it opens the same root as another would

STORAGES = ("folder", "bucket")
_numbers = count()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory) -> Iterator[str]:
    with object_store(tmp_path_factory.mktemp("store")) as store:
        yield f"s3://{store.bucket}"


@pytest.fixture(params=STORAGES)
def opener(request, tmp_path) -> Opener:
    if request.param == "folder":
        return lambda: tmp_path
    address = f"{request.getfixturevalue('bucket')}/lake-{next(_numbers)}"
    return lambda: object_place(address)


@pytest.fixture
def root(opener) -> Place:
    return opener()


def test_a_file_is_made_once(root):
    storage = storage_of(root)
    storage.put_new(root / "one", b"first")
    with pytest.raises(FileExistsError):
        storage.put_new(root / "one", b"second")
    assert storage.read(root / "one") == b"first"


def test_a_file_is_replaced_whole_and_read_by_others(opener, root):
    storage = storage_of(root)
    assert storage.read(root / "one") is None
    for content in (b"first", b"second"):
        storage.replace(root / "one", content)
        assert storage_of(opener()).read(opener() / "one") == content


def test_a_file_that_is_not_there_is_deleted_without_complaint(root):
    storage = storage_of(root)
    storage.put_new(root / "one", b"1")
    storage.delete(root / "one")
    storage.delete(root / "one")
    assert storage.read(root / "one") is None


def test_a_folder_lists_its_own_files_in_order(root):
    storage = storage_of(root)
    assert storage.list(root / "log") == []
    for name in ("b", "a", "c"):
        storage.save(root / "log" / name, lambda draft: draft.write_bytes(b"12"))
    storage.save(root / "log" / "below" / "d", lambda draft: draft.write_bytes(b"1"))
    storage.save(root / "logs", lambda draft: draft.write_bytes(b"1"))
    storage.settle()
    assert [(one.path, one.size) for one in storage.list(root / "log")] == [
        ("a", 2), ("b", 2), ("c", 2),
    ]
    assert [one.path for one in storage.list(root / "log", after="a")] == ["b", "c"]


def test_parquet_is_read_as_it_was_written(root):
    storage, rows = storage_of(root), pa.table({"x": list(range(1000))})
    place = root / "bucket=0" / storage.own("part-1.parquet")
    size = storage.save(place, lambda draft: pq.write_table(rows, draft))
    storage.settle()
    assert [one.size for one in storage.list(root / "bucket=0")] == [size]
    with pq.ParquetFile(storage.source(place)) as source:
        assert source.read() == rows
    assert pq.read_table(storage.source(str(place)), partitioning=None) == rows


def test_a_lease_has_one_holder_and_is_given_back(opener):
    first, second = (storage_of(root := opener()).lease(root / "lease") for _ in range(2))
    assert first.take()
    first.confirm()
    assert not second.take()
    first.release()
    assert second.take()
    second.release()
    first.release()


def test_a_promise_is_seen_by_the_next_to_hold_the_lease_until_it_is_laid_aside(opener):
    for number, kept in enumerate((True, False, True)):
        root = opener()
        storage = storage_of(root)
        lease = storage.lease(root / "lease")
        assert lease.take()
        if number == 2:
            assert storage.begun(root) == b'{"n":1}'
        storage.begin(root, b'{"n":%d}' % number)
        assert storage.begun(root) == b'{"n":%d}' % number
        if kept:
            storage.lay_aside(root)
            assert storage.begun(root) is None
            assert storage.done(root) == b'{"n":%d}' % number
        lease.release()
    root = opener()
    assert storage_of(root).begun(root) is None
    assert storage_of(root).done(root) == b'{"n":2}'
