"""The plan of a training on the terminal: a table with a row for each folder, and the files that are left out."""

from collections.abc import Iterator
from typing import Final

import click
from rich.box import SIMPLE
from rich.console import Console, JustifyMethod
from rich.table import Table

from classify_serving.contract.text import terminal_text
from classify_training.config import DataConfig
from classify_training.data.plan import Plan
from classify_training.data.plan_rows import PLAN_COLUMNS, TEXT_COLUMNS, plan_rows

_WIDTH: Final = 114


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
    kept = [label for label, count in counts.items() if 0 < count < min_images and label not in plan.merges]
    if kept and max(counts.values()) >= min_images and config.others not in plan.class_names:
        names = ", ".join(f"{label} ({counts[label]})" for label in kept)
        yield f"fewer than {min_images} training images, but not merged, because there is no other small class: {names}"
    if few := plan.few_test_images():
        yield f"few test images, so that the recall of these classes will mean little: {few}"
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
    *rows, total = plan_rows(plan)
    table = Table(box=SIMPLE, show_footer=True, pad_edge=False, collapse_padding=True)
    for name, footer in zip(PLAN_COLUMNS, total, strict=True):
        # Names may wrap on a narrow terminal; a number that is cut would be another number.
        is_number, width = name not in TEXT_COLUMNS, max(len(name), len(str(footer)))
        justify: JustifyMethod = "right" if is_number else "left"
        table.add_column(name, str(footer), justify=justify, overflow="fold", no_wrap=is_number, min_width=width)
    for row in rows:
        table.add_row(*(terminal_text(str(cell)) for cell in row))
    return table
