"""Copies of misses stay in their folder, whatever the names of labels and files."""

import os
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from classify_serving.exchange.misses import MissFolder, miss_name

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=()), min_size=1, max_size=300)


def test_a_plain_name() -> None:
    assert miss_name("cat", "dog", "1 a.jpg") == "cat_to_dog_1 a.jpg"


@given(st.text(max_size=300), st.text(max_size=300), st.binary(min_size=1, max_size=255).map(os.fsdecode))
def test_a_name_is_a_single_file_name_of_at_most_255_bytes(true: str, predicted: str, file_name: str) -> None:
    name = miss_name(true, predicted, file_name)
    assert name == os.path.basename(name)
    assert name not in (".", "..")
    assert not name.startswith(".")
    assert 0 < len(os.fsencode(name)) <= 255


@given(
    st.lists(st.tuples(st.text(max_size=80), st.text(max_size=300), names, st.binary(max_size=2)), max_size=6),
    st.booleans(),
)
def test_copies_with_any_names_are_kept_and_removed(images: list[tuple[str, str, str, bytes]], by_pair: bool) -> None:
    with TemporaryDirectory() as folder:
        misses = MissFolder(Path(folder), by_pair=by_pair)
        made = {}
        for _ in range(2):
            for true, predicted, name, content in images:
                made[misses.add(partial(BytesIO, content), true, predicted, name)] = content
        files = {path.relative_to(misses.folder).as_posix(): path for path in Path(folder).rglob("*") if path.is_file()}
        assert {name: path.read_bytes() for name, path in files.items()} == made
        for name in made:
            misses.remove(name)
        assert not images or not list(misses.folder.iterdir())


def test_files_outside_the_folder_are_never_removed(tmp_path: Path) -> None:
    outside = tmp_path / "precious.png"
    outside.touch()
    MissFolder(tmp_path).remove("../precious.png")
    MissFolder(tmp_path).remove(str(outside))
    for name in ("", ".", "..", "a/../../precious.png", "a/../..", "nul\0", "x" * 5000, "a/b/c"):
        MissFolder(tmp_path).remove(name)
    assert outside.exists()
