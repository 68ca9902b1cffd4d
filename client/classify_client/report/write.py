"""`report.html` at the end of a run."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from classify_client.mistakes.compare import Comparison
from classify_client.mistakes.kinds import KINDS, NOTES, Finding
from classify_client.output_folder import REPORT
from classify_client.report.html import render
from classify_client.report.thumbnails import thumbnails
from classify_client.report.view import (
    Card,
    Limits,
    calibration,
    choose_pictures,
    class_table,
    confusion_rows,
    group_misses,
    make_groups,
)
from classify_client.results.reader import UNSURE, Item, Results, places
from classify_serving.files import replacing

DEFAULT: Final = Limits()


def write_report(
    results: Results,
    findings: Mapping[str, Finding],
    comparison: Comparison | None = None,
    heats: Mapping[str, Path] | None = None,
    limits: Limits = DEFAULT,
) -> None:
    """Write `report.html` into the output folder, whole or not at all.

    Args:
        results: of the run.
        findings: the kind of each miss, by path.
        comparison: with the model before, if there was one.
        heats: pictures of where the model looked, by the path of the miss.
        limits: of the page.
    """
    page = render(make_view(results, findings, comparison or Comparison(), heats or {}, limits))
    with replacing(results.folder / REPORT) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")


def make_view(
    results: Results,
    findings: Mapping[str, Finding],
    comparison: Comparison,
    heats: Mapping[str, Path],
    limits: Limits,
) -> dict[str, Any]:
    """All values of the page."""
    summary = results.summary
    by_pair = group_misses(results.misses)
    cards = _cards(results, findings, [*choose_pictures(by_pair, limits), *results.unsure], heats, limits)
    columns, rows = confusion_rows(results)
    counts = _kind_counts(findings)
    view = {
        "summary": summary,
        "model": summary["model"],
        "title": f"{summary['model']['name']}: what it got wrong",
        "heading": _heading(summary),
        "written": f"{datetime.now().astimezone():%d %B %Y, %H:%M}",
        "calibration": calibration(results),
        "kinds": KINDS,
        "kind_notes": NOTES,
        "kind_counts": counts,
        "comparison": comparison if comparison.total.images else None,
        "broken_paths": {pair.path for pair in comparison.broken},
        "columns": columns,
        "rows": rows,
        "groups": make_groups(by_pair, cards, results, limits),
        "unsure": [cards[item.path] for item in results.unsure if cards[item.path].picture],
        "unsure_count": results.unsure_count,
        "unsure_below": UNSURE,
        "broken": results.broken,
        "broken_more": max(0, summary["failed"] - len(results.broken)),
        "class_rows": class_table(results),
        "said": results.said.most_common(),
        "settings": list(_settings(results)),
    }
    return view | {"sections": list(_sections(view))}


def _cards(
    results: Results,
    findings: Mapping[str, Finding],
    pictured: Sequence[Item],
    heats: Mapping[str, Path],
    limits: Limits,
) -> dict[str, Card]:
    """A card for each miss and each of the items that are to have a picture; heat maps get what room is left."""
    explained = [item for item in pictured if item.path in heats]
    where = [*(tuple(places(results.folder, item)) for item in pictured), *((heats[i.path],) for i in explained)]
    drawn = thumbnails(where, limits.bytes)
    pictures = dict(zip((item.path for item in pictured), drawn, strict=False))
    hot = dict(zip((item.path for item in explained), drawn[len(pictured) :], strict=True))
    return {
        item.path: Card(item, findings.get(item.path), pictures.get(item.path, ""), hot.get(item.path, ""))
        for item in (*results.misses, *pictured)
    }


def _heading(summary: Mapping[str, Any]) -> str:
    if not summary["labelled"]:
        return f"{summary['answered']:,} answers, and no labels to mark them by"
    if not summary["misses"]:
        return f"All {summary['labelled']:,} right"
    return f"{summary['misses']:,} of {summary['labelled']:,} wrong: have a look"


def _kind_counts(findings: Mapping[str, Finding]) -> list[tuple[str, int]]:
    counts = {kind: sum(finding.kind == kind for finding in findings.values()) for kind in KINDS}
    return [(kind, count) for kind, count in counts.items() if count]


def _sections(view: Mapping[str, Any]) -> Iterator[tuple[str, str, int | None]]:
    if view["comparison"]:
        yield "comparison", "Since last time", None
    if view["groups"]:
        yield "confusion", "Confusion matrix", None
        yield "misses", "Misses", view["summary"]["misses"]
    if view["unsure"]:
        yield "unsure", "Unsure", view["unsure_count"]
    if view["broken"]:
        yield "broken", "Could not be read", view["summary"]["failed"]
    yield "classes", "Classes", None
    if view["summary"]["labelled"]:
        yield "calibration", "Calibration", None
    yield "settings", "This run", None


def _merged(merges: Mapping[str, str]) -> str:
    folders: dict[str, list[str]] = {}
    for folder, name in merges.items():
        folders.setdefault(name, []).append(folder)
    return "; ".join(f"{', '.join(merged)} count as {name}" for name, merged in folders.items())


def _day(moment: str) -> str:
    """The day of an ISO time, in words; as it is, if it is none."""
    try:
        return f"{datetime.fromisoformat(moment):%-d %B %Y, %H:%M}"
    except ValueError:
        return moment


def _settings(results: Results) -> Iterator[tuple[str, str]]:
    summary = results.summary
    model = summary["model"]
    yield "Model", f"{model['name']} version {', '.join(model['versions']) or '-'}, exported {_day(model['created'])}"
    if model["merges"]:
        yield "Merged classes", _merged(model["merges"])
    for name, value in summary["arguments"].items():
        if value not in (None, [], False):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else "yes" if value is True else value
            yield name.replace("_", " ").capitalize(), str(shown)
    if summary["images_per_second"]:
        yield "Speed", f"{summary['images_per_second']:.0f} images/s, {summary['seconds']:.1f} s in all"
    yield "Results", str(results.folder)
