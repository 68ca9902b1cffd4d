"""classify-train apply: from decisions about misses to a mended dataset."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classify_serving.contract.text import terminal_text
from classify_training.cli.option_types import FOLDER
from classify_training.errors import MendError

if TYPE_CHECKING:
    from classify_training.corrections.journal import Change
    from classify_training.corrections.planner import Mending


@click.command()
@click.argument("review", type=FOLDER, default=Path("classified/review.csv"))
@click.option("--dataset", type=FOLDER, default=Path("dataset"), help="The dataset to change.")
@click.option(
    "--add", is_flag=True, help="Copy images into the dataset that were kept or relabelled and are not in it."
)
@click.option("--create", is_flag=True, help="Allow classes that the dataset does not have yet.")
@click.option(
    "--accept",
    multiple=True,
    metavar="KIND",
    help="Take the proposed action of this kind of miss where none is decided; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.option("--undo", is_flag=True, help="Take the last one back; repeat it to go further back.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def apply(dataset: Path, dry_run: bool, yes: bool, undo: bool, **options: Any) -> None:
    """Change a dataset as REVIEW says, the review.csv of classify-client with its column action filled in.

    keep confirms a label, so that the image is not flagged again; relabel:CLASS moves it to another class;
    delete moves it to .review/trash in the dataset. Images are found by their content, wherever they are in the
    dataset. Everything is shown first, and can be undone.
    """
    from classify_training.corrections.journal import open_journal
    from classify_training.corrections.planner import MendConfig, plan_mending

    if not dataset.is_dir():
        raise MendError(f"no dataset folder {dataset}: correct --dataset")
    with open_journal(dataset) as journal:
        if undo:
            _tell_undone(journal.undo())
            return
        if not dry_run and journal.recover():
            click.echo("Finished what an earlier apply had begun.", err=True)
        name = journal.new_name()
        mending = plan_mending(MendConfig(dataset=dataset, **options), name)
        _show(mending)
        if not mending.changes or dry_run:
            return
        if not yes and not _confirmed():
            click.echo("Nothing was changed.")
            return
        journal.perform(name, mending.changes)
        click.echo("Done. Take it back with: classify-train apply --undo" + _dataset_option(dataset))


def _dataset_option(dataset: Path) -> str:
    return "" if dataset == Path("dataset") else f" --dataset {dataset}"


def _confirmed() -> bool:
    if sys.stdin.isatty():
        return click.confirm("Do this?")
    raise MendError("nothing was changed, because nobody can be asked here: add --yes to do this, or --dry-run")


def _show(mending: "Mending") -> None:
    for change in mending.changes:
        if change.kind == "move":
            click.echo(f"move     {terminal_text(change.source)} -> {terminal_text(change.target)}")
        elif change.kind == "add":
            click.echo(f"add      {terminal_text(change.source)} -> {terminal_text(change.target)}")
    for row in mending.outside:
        click.echo(f"left     {row.path}: not in the dataset, --add copies it there")
    parts = [_counted(mending.changes)] if mending.changes else ["nothing to do"]
    parts += [f"{mending.settled} need nothing"] if mending.settled else []
    parts += [f"{mending.undecided} undecided"] if mending.undecided else []
    click.echo(", ".join(parts))


def _counted(changes: "Sequence[Change]") -> str:
    names = {"move": "to move", "add": "to add", "confirm": "labels to confirm"}
    counts: Counter[str] = Counter(change.kind for change in changes)
    return ", ".join(f"{counts[kind]} {name}" for kind, name in names.items() if counts[kind])


def _tell_undone(changes: "Sequence[Change]") -> None:
    if not changes:
        raise MendError("there is nothing to undo")
    files = sum(change.kind != "confirm" for change in changes)
    click.echo(f"Undone: {files} files are where they were, {len(changes) - files} labels are no longer confirmed.")
