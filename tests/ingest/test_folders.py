"""Files that are left somewhere are imported once they are complete, and once."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from habitue.cli.app import habitue
from habitue.errors import BadMapping, BadSetting
from habitue.ingest.folders import Bucket, Folder, Import, Target, Watch, place_of
from habitue.lake.query import read
from habitue.lake.tables import Lake
from tests.ingest.small import LINES, NOW, row, written
from tests.objectstore import object_store


@pytest.fixture
def drop(tmp_path) -> Path:
    folder = tmp_path / "drop"
    folder.mkdir()
    (tmp_path / "m.toml").write_text(LINES)
    return folder


def watching(drop: Path, place=None) -> Watch:
    """A watch of the folder, as a fresh process opens it."""
    base = drop.parent
    target = Target(lake=Lake(base / "lake", buckets=2), shop="acme", mapping=base / "m.toml",
                    memory=base / "imports")  # fmt: skip
    return Watch(place or Folder(drop), str(drop), target)


def look(watch: Watch, looks: int = 1) -> list[Import]:
    found: list[Import] = []
    for _ in range(looks):
        watch.take(found.append, now=lambda: NOW)
    return found


def appended(found: list[Import]) -> dict[str, int]:
    return {one.name: one.receipt.appended for one in found if one.receipt}


def orders(drop: Path) -> int:
    lake = Lake(drop.parent / "lake")
    return read(lake, "SELECT count(*) AS n FROM events", shop="acme")["n"][0].as_py()


def test_a_file_is_imported_at_the_second_look_and_never_again(drop):
    written(drop / "a.csv", [row(order="1"), row(order="2")])
    watch = watching(drop)
    assert look(watch) == []
    assert appended(look(watch)) == {"a.csv": 2}
    assert look(watch, 3) == []
    assert look(watching(drop), 3) == []                   # a new process remembers
    assert (drop / "a.csv").exists()


def test_a_file_that_grows_waits_until_it_is_whole(drop):
    watch = watching(drop)
    for count in range(1, 5):
        written(drop / "a.csv", [row(order=str(n)) for n in range(count)])
        assert look(watch) == []
        assert watch.waiting() == ["a.csv"]
    assert appended(look(watch)) == {"a.csv": 4}


@pytest.mark.parametrize("name", ["a.csv.tmp", "a.csv.part", ".a.csv", "_temporary/a.csv"])
def test_names_of_unfinished_files_are_left_alone(drop, name):
    (drop / name).parent.mkdir(exist_ok=True)
    written(drop / name, [row()])
    watch = watching(drop)
    assert look(watch, 3) == []
    (drop / name).rename(drop / "done.csv")
    assert appended(look(watch, 2)) == {"done.csv": 1}


def test_the_same_content_under_another_name_is_known(drop):
    written(drop / "a.csv", [row()])
    look(watch := watching(drop), 2)
    written(drop / "sub.csv", [row()])
    (drop / "a.csv").rename(drop / "b.csv")
    assert look(watch, 3) == []
    assert orders(drop) == 1


def test_a_bad_file_is_told_once_and_tried_again_when_it_changes(drop):
    (drop / "a.csv").write_text("other\n1\n")
    watch = watching(drop)
    assert [one.problem is not None for one in look(watch, 2)] == [True]
    assert look(watch, 2) == []
    assert look(watching(drop), 2) == []                   # also by a new process
    written(drop / "a.csv", [row()])
    assert appended(look(watch, 2)) == {"a.csv": 1}


def test_a_bad_file_is_tried_again_when_the_mapping_changes(drop):
    written(drop / "a.csv", [row()])
    right = (drop.parent / "m.toml").read_text()
    (drop.parent / "m.toml").write_text(right.replace('item = "item"', 'item = "thing"'))
    watch = watching(drop)
    assert "thing" in look(watch, 2)[0].problem
    (drop.parent / "m.toml").write_text(right)
    assert appended(look(watch, 2)) == {"a.csv": 1}


def test_a_bad_mapping_is_no_fault_of_the_files(drop):
    written(drop / "a.csv", [row()])
    (drop.parent / "m.toml").write_text("kind = 3")
    with pytest.raises(BadMapping):
        look(watching(drop))


def test_one_bad_file_holds_up_no_other(drop):
    (drop / "a.csv").write_text("")
    written(drop / "b.csv", [row()])
    found = look(watching(drop), 2)
    assert [(one.name, one.problem is None) for one in found] == [("a.csv", False), ("b.csv", True)]


def test_a_file_that_changes_while_it_is_read_is_read_again(drop, monkeypatch):
    written(drop / "a.csv", [row(order="1")])
    watch = watching(drop)
    look(watch)
    import habitue.ingest.folders as folders

    whole = folders.import_file

    def meddled(path, **named):
        receipt = whole(path, **named)
        written(drop / "a.csv", [row(order="1"), row(order="2")])
        return receipt

    monkeypatch.setattr(folders, "import_file", meddled)
    assert look(watch) == []
    monkeypatch.setattr(folders, "import_file", whole)
    assert appended(look(watch, 2)) == {"a.csv": 1}
    assert orders(drop) == 2


def test_a_lost_memory_costs_a_reading_and_doubles_nothing(drop):
    written(drop / "a.csv", [row(order="1"), row(order="2")])
    look(watching(drop), 2)
    (memory,) = (drop.parent / "imports").glob("watch-*.json")
    memory.write_bytes(memory.read_bytes()[:20])
    assert appended(look(watching(drop), 2)) == {"a.csv": 0}
    assert orders(drop) == 2


def test_a_folder_that_is_not_there_is_refused_with_what_to_do(tmp_path, drop):
    with pytest.raises(BadSetting, match="is no folder"):
        look(watching(drop, place_of(str(tmp_path / "nowhere"))))


def test_the_command_imports_what_is_there_and_fails_for_what_is_bad(drop, tmp_path):
    written(drop / "a.csv", [row()])
    (drop / "b.csv").write_text("x\n1\n")
    told = ["watch", str(drop), "--workspace", str(tmp_path / "w"), "--shop", "acme",
            "--mapping", str(tmp_path / "m.toml"), "--once"]  # fmt: skip
    first = CliRunner().invoke(habitue, told)
    assert (first.exit_code, "a.csv: 1 rows: 1 appended" in first.output) == (1, True)
    again = CliRunner().invoke(habitue, told)
    assert (again.exit_code, again.output) == (0, "")


def test_a_prefix_of_a_bucket_is_watched_like_a_folder(drop, tmp_path):
    import obstore
    from obstore.store import S3Store

    with object_store(tmp_path) as server:
        store = S3Store(server.bucket, client_options={"allow_http": True})

        def put(name: str, *rows: object) -> None:
            obstore.put(store, name, written(tmp_path / "up.csv", rows).read_bytes())

        put("in/one/a.csv", row(order="1"))
        put("in/b.csv.tmp", row(order="2"))
        put("else/c.csv", row(order="3"))
        watch = watching(drop, Bucket(f"s3://{server.bucket}/in"))
        assert appended(look(watch, 3)) == {"one/a.csv": 1}
        put("in/one/a.csv", row(order="1"), row(order="4"))
        assert appended(look(watch, 3)) == {"one/a.csv": 1}
        assert orders(drop) == 2


def test_an_address_without_a_bucket_is_refused():
    with pytest.raises(BadSetting, match="names no bucket"):
        Bucket("s3:///in")
