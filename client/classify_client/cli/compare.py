"""classify-client compare: compare two runs and print what changed."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from classify_client.errors import ClassifyError
from classify_serving.contract.text import terminal_text

if TYPE_CHECKING:
    from rich.table import Table

    from classify_client.mistakes.compare import Comparison, Pair

_FOLDER: Final = click.Path(path_type=Path)
_MOST: Final = 20


@click.command(context_settings={"auto_envvar_prefix": "CLASSIFY_COMPARE", "show_default": True})
@click.argument("before", type=_FOLDER)
@click.argument("after", type=_FOLDER)
@click.option("--json", "as_json", envvar="CLASSIFY_COMPARE_JSON", is_flag=True, help="Print everything as JSON.")
def compare_command(before: Path, after: Path, as_json: bool) -> None:
    """Compare two runs over the same images; BEFORE and AFTER are their output folders.

    Prints which images were fixed, are newly wrong and are still wrong, the changes of each class, and how likely so
    large a difference is if both models are equally good (McNemar's exact test).
    """
    try:
        from classify_client.mistakes.compare import compare
        from classify_client.results.reader import read_summary, result_rows

        summaries = read_summary(before), read_summary(after)
        comparison = compare(result_rows(before, summaries[0]), result_rows(after, summaries[1]))
    except ClassifyError as error:
        click.echo(f"Error: {terminal_text(str(error))}", err=True)
        sys.exit(error.exit_code)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(comparison.record())))
        return
    if not comparison.total.images:
        folders = terminal_text(f"both {before} and {after}")
        click.echo(f"Error: no image with a true label is in {folders}: compare runs over the same inputs", err=True)
        sys.exit(2)
    for name, value in _lines(comparison, (before, after), summaries):
        click.echo(click.style(f"{name:<13}", bold=True) + terminal_text(value))
    _print_classes(comparison)
    _print_files("Newly wrong", comparison.broken)


def _lines(
    comparison: "Comparison", folders: Sequence[Path], summaries: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    total = comparison.total
    for name, folder, summary, right in zip(
        ("Before", "After"), folders, summaries, (total.right_before, total.right_after), strict=True
    ):
        model = summary["model"]
        version = f"{model['name']} version {', '.join(model['versions'])}"
        yield name, f"{right / total.images:.1%} right  ({version}, {folder})"
    alone = f", {comparison.only_before} only before, {comparison.only_after} only after"
    yield (
        "Compared",
        f"{total.images} labelled images" + (alone if comparison.only_before + comparison.only_after else ""),
    )
    yield "Fixed", str(total.fixed)
    yield "Newly wrong", str(total.broken)
    yield "Still wrong", str(len(comparison.still_wrong))
    points = 100 * (total.right_after - total.right_before) / total.images
    yield (
        "Difference",
        f"{points:+.1f} points, p = {total.p_value:.2g}" + ("" if total.p_value < 0.05 else "  (may be chance)"),
    )


def _print_classes(comparison: "Comparison") -> None:
    from rich.console import Console

    changed = comparison.changed_classes()
    if changed:
        Console(highlight=False).print(_table(changed))


def _table(changed: Sequence[tuple[str, Any]]) -> "Table":
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE)
    table.add_column("class")
    for column in ("images", "before", "after", "fixed", "newly wrong", "p"):
        table.add_column(column, justify="right")
    for name, change in changed:
        shares = (f"{right / change.images:.1%}" for right in (change.right_before, change.right_after))
        counts = (str(change.fixed), str(change.broken), f"{change.p_value:.2g}")
        table.add_row(Text(terminal_text(name)), str(change.images), *shares, *counts)
    return table


def _print_files(title: str, pairs: "Sequence[Pair]") -> None:
    for pair in pairs[:_MOST]:
        was, now = (f"{item.predicted} {item.probability:.0%}" for item in (pair.before, pair.after))
        click.echo(f"{title}: {terminal_text(pair.path)}  ({terminal_text(was)} -> {terminal_text(now)})")
    if len(pairs) > _MOST:
        click.echo(f"and {len(pairs) - _MOST} more: --json lists all")
