"""An encoder is found by name, and is the one that is meant, or is refused with what to do."""

import sys

import pytest

from habitue.errors import BadSetting
from habitue.model.texts import folder as module
from habitue.model.texts.folder import digest_of, encoder_folder, pinned
from tests.model.texts.small import encoder_folder as made


def test_no_encoder_has_no_name():
    assert pinned("") == ""


def test_a_name_that_is_neither_folder_nor_package_says_what_to_do():
    with pytest.raises(BadSetting, match=r"(?s)neither a folder .*habitue\[text\]"):
        encoder_folder("sentence-transformers/all-MiniLM-L6-v2")


def test_a_folder_that_lacks_a_file_says_which(tmp_path):
    folder = made(tmp_path)
    (folder / "vocab.txt").unlink()
    with pytest.raises(BadSetting, match=r"lacks tokenizer\.json or vocab\.txt"):
        encoder_folder(str(folder))


def test_a_package_that_carries_a_folder_is_found(tmp_path, monkeypatch):
    package = tmp_path / "some_words"
    folder = made(package / "deep" / "model")
    (package / "__init__.py").write_text("raise RuntimeError('is not run')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert encoder_folder("some-words") == folder


def test_a_pinned_name_is_pinned_to_itself(tmp_path):
    name = pinned(str(made(tmp_path)))
    assert name == f"{tmp_path}#{digest_of(tmp_path)}"
    assert pinned(name) == name
    assert encoder_folder(name) == tmp_path


def test_a_folder_is_found_again_from_elsewhere(tmp_path, monkeypatch):
    made(tmp_path / "here" / "encoder")
    monkeypatch.chdir(tmp_path / "here")
    name = pinned("encoder")
    monkeypatch.chdir(tmp_path)
    assert encoder_folder(name) == tmp_path / "here" / "encoder"


@pytest.mark.parametrize("file", ["config.json", "vocab.txt", "model.safetensors"])
def test_another_encoder_in_its_place_is_refused(tmp_path, file):
    name = pinned(str(made(tmp_path)))
    with (tmp_path / file).open("ab") as content:
        content.write(b"\n")
    with pytest.raises(BadSetting, match="not the one that the model was trained with"):
        pinned(name)


def test_a_package_of_unknown_hands_must_carry_the_weights_that_are_known(tmp_path, monkeypatch):
    made(tmp_path / "some_words")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(module.PACKAGES, "some-words", "0" * 64)
    with pytest.raises(BadSetting, match="not those it should carry"):
        encoder_folder("some-words")
