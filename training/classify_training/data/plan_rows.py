"""The plan of a training as the rows of a table, for the terminal and for the page of a run."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from classify_training.data.plan import Plan

PLAN_COLUMNS: Final = (
    "folder", "found", "corrupt", "duplicates", "conflict", "near-duplicates", "class", "train", "val", "test",
    "balanced",
)  # fmt: skip
TEXT_COLUMNS: Final = ("folder", "class")
"""Those of the columns that hold no numbers."""


def plan_rows(plan: Plan) -> Iterator[tuple[str | int, ...]]:
    """Yield the values of `PLAN_COLUMNS` for each folder, and at last their totals."""
    dataset = plan.dataset
    corrupt = Counter(file.label for file, _ in dataset.corrupt)
    duplicates = Counter(file.label for file in (*dataset.duplicates, *dataset.leaks))
    conflicts = Counter(example.file.label for group in dataset.conflicts for example in group)
    near = Counter(example.file.label for group in dataset.near_duplicates() for example in group)
    train, val, test = (plan.folder_counts(split) for split in ("train", "val", "test"))
    epoch = Counter(dataset.examples[index].file.label for index in plan.epoch_examples.tolist())
    for label in sorted(dataset.found):
        yield (
            label, dataset.found[label], corrupt[label], duplicates[label], conflicts[label], near[label],
            plan.merges.get(label, label), train[label], val[label], test[label], epoch[label],
        )  # fmt: skip
    yield (
        "total", sum(dataset.found.values()), corrupt.total(), duplicates.total(), conflicts.total(), near.total(),
        f"{len(plan.class_names)} classes", sum(train.values()), sum(val.values()), sum(test.values()), epoch.total(),
    )  # fmt: skip
