"""Names of misses stay inside their folder, whatever labels and files are called."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from classify_serving.misses import Misses, miss_name

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=()), min_size=1, max_size=300)


def test_a_plain_name_is_the_articles() -> None:
    assert miss_name("cat", "dog", "1 a.jpg") == "cat_to_dog_1 a.jpg"


@given(st.text(max_size=300), st.text(max_size=300), st.binary(min_size=1, max_size=255).map(os.fsdecode))
def test_a_name_is_one_component_of_at_most_255_bytes(true: str, predicted: str, file_name: str) -> None:
    name = miss_name(true, predicted, file_name)
    assert name == os.path.basename(name)
    assert name not in (".", "..")
    assert not name.startswith(".")
    assert 0 < len(os.fsencode(name)) <= 255


def test_removing_never_leaves_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "precious.png"
    outside.touch()
    Misses(tmp_path).remove("../precious.png")
    Misses(tmp_path).remove(str(outside))
    Misses(tmp_path).remove("")
    assert outside.exists()
