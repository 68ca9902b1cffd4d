"""The plan of a training on the terminal: a table with a row for each folder, and the files that are left out."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import click
from rich.box import SIMPLE
from rich.console import Console, JustifyMethod
from rich.table import Table

from classify_serving.contract.text import terminal_text
from classify_training.config import DataConfig
from classify_training.data.plan import Plan

_WIDTH: Final = 114
_FEW_TEST_IMAGES: Final = 5
_COLUMNS: Final[tuple[tuple[str, JustifyMethod], ...]] = (
    ("folder", "left"), ("found", "right"), ("corrupt", "right"), ("duplicates", "right"), ("conflict", "right"),
    ("near-duplicates", "right"), ("class", "left"),
    ("train", "right"), ("val", "right"), ("test", "right"), ("balanced", "right"),
)  # fmt: skip


def print_plan(plan: Plan, config: DataConfig) -> None:
    """Print the table on stdout, and on stderr everything that is left out or doubtful.

    Args:
        plan: what will be trained on.
        config: how it was made.
    """
    # On a narrower terminal long lines wrap, which is better than columns that vanish.
    Console(width=max(Console().width, _WIDTH)).print(plan_table(plan))
    for line in _remarks(plan, config):
        click.echo(terminal_text(line), err=True)


def _remarks(plan: Plan, config: DataConfig) -> Iterator[str]:
    min_images, dataset, counts = config.min_images, plan.dataset, plan.folder_counts("train")
    if not plan.merges and max(counts.values()) < min_images:
        yield f"nothing merged: every class has fewer than {min_images} training images"
    for target in set(plan.merges.values()) - set(counts):
        sources = [folder for folder, name in plan.merges.items() if name == target]
        if len(sources) == 1:
            yield f"not merged but renamed, because there is no other folder {target}: {sources[0]}"
    small = [label for label in plan.merges if label not in config.merge]
    if small:
        names = ", ".join(f"{label} ({counts[label]})" for label in small)
        smallest = min(counts[label] for label in small)
        yield (
            f"merged into {plan.merges[small[0]]}, with fewer than {min_images} training images each: {names}"
            f" (--min-images {smallest} keeps them)"
        )
    tested = Counter(plan.class_names[target] for target in plan.targets[plan.indices("test")].tolist())
    if few := [f"{name} ({tested[name]})" for name in plan.class_names if 0 < tested[name] < _FEW_TEST_IMAGES]:
        yield f"few test images, so that the recall of these classes will mean little: {', '.join(few)}"
    for label, count in counts.items():
        if not count:
            yield f"not a class of the model, because none of its images can be trained on: {label}"
    for _, error in dataset.corrupt:
        yield f"left out, cannot be read: {error}"
    for group in dataset.conflicts:
        yield f"left out, the same image under several labels: {', '.join(str(each.file.path) for each in group)}"
    for file in dataset.leaks:
        yield f"left out, near-duplicate of an image kept for validation or testing: {file.path}"
    for examples in dataset.near_duplicates():
        if len({example.file.label for example in examples}) > 1:
            names = ", ".join(str(example.file.path) for example in examples)
            yield f"near-duplicates under several labels, kept for training: {names}"


def plan_table(plan: Plan) -> Table:
    """Make the table, with a row for each folder and a row of totals."""
    *rows, total = _rows(plan)
    table = Table(box=SIMPLE, show_footer=True, pad_edge=False, collapse_padding=True)
    for (name, justify), footer in zip(_COLUMNS, total, strict=True):
        # Names may wrap on a narrow terminal; a number that is cut would be another number.
        is_number, width = justify == "right", max(len(name), len(str(footer)))
        table.add_column(name, str(footer), justify=justify, overflow="fold", no_wrap=is_number, min_width=width)
    for row in rows:
        table.add_row(*(terminal_text(str(cell)) for cell in row))
    return table


def _rows(plan: Plan) -> Iterator[tuple[str | int, ...]]:
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
