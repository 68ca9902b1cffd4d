"""classify-train apply: carry out the decisions of a review in a dataset."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from classify_serving.contract.text import terminal_text
from classify_training import interrupts
from classify_training.cli.options.aliases import option
from classify_training.cli.options.types import FOLDER
from classify_training.errors import CorrectionError

if TYPE_CHECKING:
    from classify_training.corrections.changes import Change
    from classify_training.corrections.planner import CorrectionPlan


@click.command()
@click.argument("review", type=FOLDER, default=Path("classified/review.csv"))
@option("--dataset", type=FOLDER, default=Path("dataset"), help="Dataset to change.")
@option("--add", is_flag=True, help="Copy kept and relabelled images into the dataset if they are not in it.")
@option("--create", is_flag=True, help="Allow classes that the dataset does not have yet.")
@option(
    "--accept",
    multiple=True,
    metavar="ISSUE_TYPE",
    help="Take the proposed action for this issue type where no action is given; repeatable.",
)
@option("--dry-run", is_flag=True, help="Show what would be done, and stop.")
@option("--yes", is_flag=True, help="Do it without asking.")
@option("--undo", is_flag=True, help="Undo the last apply; repeat to undo earlier ones.")
@option("--quiet", is_flag=True, help="No progress on stderr.")
def apply(dataset: Path, dry_run: bool, yes: bool, undo: bool, **options: Any) -> None:
    """Change a dataset as REVIEW says: the review.csv of classify-client with the column action filled in.

    keep confirms a label, so that the image is not reported again; relabel:CLASS moves the image to another class;
    delete moves it to the folder .review/trash of the dataset. Images are found by their content and label, wherever
    they are in the dataset; copies under other labels stay as they are. All changes are shown first, and can be undone.
    REVIEW is classified/review.csv by default.
    """
    from classify_training.corrections.changes import undo_command
    from classify_training.corrections.journal import open_journal
    from classify_training.corrections.planner import CorrectionConfig, plan_corrections

    if not dataset.is_dir():
        raise CorrectionError(f"no dataset folder {dataset}: correct --dataset")
    with open_journal(dataset, is_read_only=dry_run) as journal:
        if undo:
            _print_undone(journal.undo(), dataset)
            return
        if not dry_run and journal.recover():
            click.echo("Finished the changes of an earlier apply that was interrupted.", err=True)
        name = journal.new_name()
        with _before_any_change():
            plan = plan_corrections(CorrectionConfig(dataset=dataset, **options), name, journal.moved())
            _print_plan(plan)
            if not plan.changes or dry_run:
                return
            if not yes and not _is_confirmed():
                click.echo("Nothing was changed.")
                return
        journal.perform(name, plan.changes)
        click.echo(f"Done. Undo it:  {undo_command(dataset)}")
        if plan.changes_files:
            click.echo(f"Train again:  classify-train train {quote(str(dataset))} --output models/NAME")


@contextmanager
def _before_any_change() -> Iterator[None]:
    """Let an interruption say that there is nothing to finish or to undo."""
    try:
        yield
    except (KeyboardInterrupt, click.Abort) as error:
        raise interrupts.Interrupted("nothing was changed") from error


def _is_confirmed() -> bool:
    if sys.stdin.isatty():
        return click.confirm("Do this?")
    raise CorrectionError(
        "nothing was changed, because there is no terminal to ask on: add --yes, or --dry-run to look only"
    )


def _print_plan(plan: "CorrectionPlan") -> None:
    for change in plan.changes:
        kept = plan.duplicates.get(change.source)
        reason = f" ({terminal_text(kept)} is the same image)" if kept else ""
        if change.is_deletion:
            # Without the name of the trash folder, which is the time: the same plan twice is the same text.
            click.echo(f"delete   {terminal_text(change.source)}{reason}")
        elif change.kind == "move":
            click.echo(f"move     {terminal_text(change.source)} -> {terminal_text(change.target)}{reason}")
        elif change.kind == "add":
            click.echo(f"add      {terminal_text(change.source)} -> {terminal_text(change.target)}")
    for row in plan.not_in_dataset:
        click.echo(f"skipped  {terminal_text(row.path)}: not in the dataset, --add copies it there")
    for row in plan.missing:
        click.echo(f"skipped  {terminal_text(row.path)}: neither in the dataset nor where it was judged")
    for row, path in plan.other_label:
        label = f"not in the dataset as {terminal_text(row.label)}, but as {terminal_text(path)}"
        click.echo(f"skipped  {terminal_text(row.path)}: {label}, which stays as it is")
    for path, other in plan.conflicts.items():
        click.echo(
            f"note     {terminal_text(other)} stays, the same image as {terminal_text(path)} with another label: a"
            " training leaves out both, so decide about it too"
        )
    parts = [_count(plan.changes)] if plan.changes else ["nothing to do"]
    parts += [f"{plan.unchanged} need{'s' * (plan.unchanged == 1)} no change"] if plan.unchanged else []
    parts += [f"{plan.undecided} undecided"] if plan.undecided else []
    click.echo(", ".join(parts))
    if plan.not_in_dataset and not plan.changes_files:
        click.echo("no file of the dataset changes: to find its wrong labels, classify the dataset itself", err=True)


def _count(changes: "Sequence[Change]") -> str:
    names = {"move": "to move", "delete": "to delete", "add": "to add", "confirm": "labels to confirm"}
    counts = Counter("delete" if each.is_deletion else each.kind for each in changes)
    # The label of an image that moves or is added is confirmed as well, but is no other decision.
    moved = {each.sha256 for each in changes if each.kind != "confirm" and not each.is_deletion}
    counts["confirm"] -= sum(each.kind == "confirm" and each.sha256 in moved for each in changes)
    if counts["confirm"] == 1:
        names["confirm"] = "label to confirm"
    return ", ".join(f"{counts[kind]} {name}" for kind, name in names.items() if counts[kind])


def _print_undone(changes: "Sequence[Change] | None", dataset: Path) -> None:
    if changes is None:
        raise CorrectionError(f"there is nothing to undo in {dataset}: give --dataset if you mean another folder")
    files = sum(change.kind != "confirm" for change in changes)
    click.echo(f"Undone: {files} files are as before, {len(changes) - files} labels are no longer confirmed.")
