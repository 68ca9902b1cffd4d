"""Splitting loses nothing, keeps what the dataset says, and always leaves something to train on."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from classify_training.data.examples import Split
from classify_training.data.split import assign_splits

fractions = st.floats(0, 0.9)
given_splits = st.sampled_from([None, None, None, "train", "val", "test"])
# Mostly groups of one; those of a dataset's own val and test folders hold nothing of other splits.
group = st.one_of(st.none(), st.integers(0, 5))
examples = st.lists(st.tuples(st.sampled_from("abc"), given_splits, group), min_size=1, max_size=60)


@given(examples, fractions, fractions, st.integers(0, 9))
def test_rules_of_splitting(
    images: list[tuple[str, Split | None, int | None]], val: float, test: float, seed: int
) -> None:
    labels = [label for label, _, _ in images]
    given = [split for _, split, _ in images]
    free = [split in (None, "train") for split in given]
    groups = [100 + i if g is None or not free[i] else g for i, (_, _, g) in enumerate(images)]
    splits = assign_splits(labels, given, groups, val, test, seed)
    assert splits == assign_splits(labels, given, groups, val, test, seed)
    for number in set(groups):
        assert len({split for split, own in zip(splits, groups, strict=True) if own == number}) == 1, "never separated"
    assert len(splits) == len(labels)
    for split, own in zip(splits, given, strict=True):
        if own in ("val", "test"):
            assert split == own
        elif split in ("val", "test"):
            assert split not in given, "nothing is taken for a split that the dataset brings along"
    for label in {label for label, own, _ in images if own not in ("val", "test")}:
        assert ("train" in [split for split, name in zip(splits, labels, strict=True) if name == label]) is True


def test_shares_are_those_asked_for_in_every_class() -> None:
    labels = ["a"] * 200 + ["b"] * 20
    splits = assign_splits(labels, [None] * 220, range(220), val=0.15, test=0.1, seed=3)
    assert Counter(zip(labels, splits, strict=True)) == {
        ("a", "train"): 150,
        ("a", "val"): 30,
        ("a", "test"): 20,
        ("b", "train"): 15,
        ("b", "val"): 3,
        ("b", "test"): 2,
    }


def test_another_seed_splits_otherwise() -> None:
    labels = ["a"] * 50
    one, other = (assign_splits(labels, [None] * 50, range(50), 0.2, 0.2, seed) for seed in (1, 2))
    assert one != other


def test_near_duplicates_go_together_and_doubtful_ones_are_trained_on() -> None:
    labels = ["a"] * 40 + ["b"] * 40
    groups = [number // 4 for number in range(40)] + [9, *range(100, 139)]
    splits = assign_splits(labels, [None] * 80, groups, val=0.25, test=0.25, seed=1)
    assert Counter(splits[:40]) == {"train": 24, "val": 8, "test": 8}
    assert set(splits[36:41]) == {"train"}, "one picture under both labels"
