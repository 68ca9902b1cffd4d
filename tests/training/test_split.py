"""Splitting loses nothing, keeps what the dataset says, and always leaves something to train on."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from classify_training.dataset import Split
from classify_training.split import assign_splits

fractions = st.floats(0, 0.9)
given_splits = st.sampled_from([None, None, None, "train", "val", "test"])
examples = st.lists(st.tuples(st.sampled_from("abc"), given_splits), min_size=1, max_size=60)


@given(examples, fractions, fractions, st.integers(0, 9))
def test_rules_of_splitting(pairs: list[tuple[str, Split | None]], val: float, test: float, seed: int) -> None:
    labels = [label for label, _ in pairs]
    given = [split for _, split in pairs]
    splits = assign_splits(labels, given, val, test, seed)
    assert splits == assign_splits(labels, given, val, test, seed)
    assert len(splits) == len(labels)
    for split, own in zip(splits, given, strict=True):
        if own in ("val", "test"):
            assert split == own
        elif split in ("val", "test"):
            assert split not in given, "nothing is taken for a split that the dataset brings along"
    for label in {label for label, own in pairs if own not in ("val", "test")}:
        assert ("train" in [split for split, name in zip(splits, labels, strict=True) if name == label]) is True


def test_shares_are_those_asked_for_in_every_class() -> None:
    labels = ["a"] * 200 + ["b"] * 20
    splits = assign_splits(labels, [None] * 220, val=0.15, test=0.1, seed=3)
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
    one, other = (assign_splits(labels, [None] * 50, 0.2, 0.2, seed) for seed in (1, 2))
    assert one != other
