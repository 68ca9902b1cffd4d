"""Balancing invents nothing, loses only what it thins, and is the same for the same seed."""

from collections import Counter
from math import ceil
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify_training.data.balance import balance, class_weights, merge_counts, plan_merges
from classify_training.errors import DatasetError

counts = st.dictionaries(st.sampled_from(["a", "b", "c", "d", "others"]), st.integers(1, 60), min_size=1)


@given(counts, st.integers(0, 70))
def test_rules_of_merging(folders: dict[str, int], min_images: int) -> None:
    merges = plan_merges(folders, min_images)
    merged = merge_counts(folders, merges)
    assert sum(merged.values()) == sum(folders.values())
    assert all(folders[folder] < min_images for folder in merges)
    assert len(merged) >= min(2, len(folders))
    if merges:
        assert len(merges) + ("others" in folders) >= 2
        assert set(merges.values()) == {"others"}
        assert all(count >= min_images for name, count in merged.items() if name != "others")


def test_small_classes_are_merged_into_others() -> None:
    assert plan_merges({"cat": 90, "dog": 80, "emu": 3, "fox": 4}, 20) == {"emu": "others", "fox": "others"}
    assert plan_merges({"cat": 90, "dog": 80, "emu": 3}, 20) == {}, "one alone would only lose its name"
    assert plan_merges({"cat": 90, "dog": 80, "emu": 3, "others": 50}, 20) == {"emu": "others"}
    assert plan_merges({"cat": 9, "dog": 8, "emu": 3}, 20) == {}, "a classifier needs two classes"


def test_merges_by_hand_come_first_and_may_be_merged_on() -> None:
    by_hand = {"puppy": "dog", "mouse": "rodent"}
    folders = {"cat": 90, "dog": 15, "puppy": 15, "mouse": 2, "emu": 3}
    assert plan_merges(folders, 20, by_hand=by_hand) == {"puppy": "dog", "mouse": "others", "emu": "others"}


@pytest.mark.parametrize("by_hand", [{"absent": "cat"}, {"dog": "cat", "cat": "pet"}])
def test_merges_that_make_no_sense_are_refused(by_hand: dict[str, str]) -> None:
    with pytest.raises(DatasetError):
        plan_merges({"cat": 9, "dog": 9}, 0, by_hand=by_hand)


@given(counts, st.floats(1, 5), st.booleans(), st.integers(0, 9))
def test_rules_of_balancing(folders: dict[str, int], max_ratio: float, oversample: bool, seed: int) -> None:
    classes = [name for name, count in folders.items() for _ in range(count)]
    chosen = balance(classes, max_ratio, oversample, seed).tolist()
    assert chosen == balance(classes, max_ratio, oversample, seed).tolist()
    assert set(chosen) <= set(range(len(classes)))
    limit = ceil(max_ratio * median(folders.values()))
    kept = Counter(classes[index] for index in set(chosen))
    assert kept == {name: min(count, limit) for name, count in folders.items()}
    repeated = Counter(chosen)
    for name in folders:
        times = [count for index, count in repeated.items() if classes[index] == name]
        assert max(times) - min(times) <= 1
    sizes = Counter(classes[index] for index in chosen)
    assert set(sizes.values()) == {max(kept.values())} if oversample else sizes == kept


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=20))
def test_weights_make_classes_count_alike_and_images_one_on_average(sizes: list[int]) -> None:
    counts = np.array(sizes)
    weights = class_weights(counts)
    np.testing.assert_allclose(weights * counts, counts.sum() / len(counts), rtol=1e-5)
    assert np.average(weights, weights=counts) == pytest.approx(1, rel=1e-5)
