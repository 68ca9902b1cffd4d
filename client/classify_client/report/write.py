"""Write `report.html`."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from classify_client.mistakes.compare import Comparison
from classify_client.mistakes.issues import LEAST_ACCURACY, NOTES, LabelIssue, can_doubt, most_suspicious_first
from classify_client.mistakes.review import Review
from classify_client.output_folder import REPORT
from classify_client.report.html import render
from classify_client.report.view import (
    DEFAULT,
    Card,
    Limits,
    calibration,
    class_table,
    confusion_rows,
    group_misses,
    make_groups,
)
from classify_client.results.reader import UNCERTAIN_BELOW, Results
from classify_serving.exchange.issue_types import ISSUE_TYPES
from classify_serving.files import replacing
from classify_serving.review_page.page import PageRow, SimilarImage, page_data


@dataclass(frozen=True)
class Pictures:
    """Thumbnails and heat maps as data URIs, and similar training images, by path, in the order of their importance."""

    thumbnails: Mapping[str, str] = field(default_factory=dict)
    heatmaps: Mapping[str, str] = field(default_factory=dict)
    similar: Mapping[str, Sequence[SimilarImage]] = field(default_factory=dict)

    def within(self, most_bytes: int) -> "Pictures":
        """The first thumbnails, then the first heat maps, then the first similar images, up to a total size."""
        room = most_bytes
        kept: tuple[dict[str, str], dict[str, str]] = ({}, {})
        for uris, own in zip((self.thumbnails, self.heatmaps), kept, strict=True):
            for path, uri in uris.items():
                room -= len(uri)
                if room >= 0:
                    own[path] = uri
        similar = {}
        for path, images in self.similar.items():
            room -= sum(len(image.picture) for image in images)
            if room >= 0:
                similar[path] = images
        return Pictures(*kept, similar)


def write_report(
    results: Results,
    review: Review,
    pictures: Pictures | None = None,
    comparison: Comparison | None = None,
    limits: Limits = DEFAULT,
) -> None:
    """Write `report.html` into the output folder, whole or not at all.

    Args:
        results: of the run.
        review: what may be wrong with the misses.
        pictures: thumbnails and heat maps.
        comparison: with the previous model, if there was one.
        limits: of the page.
    """
    page = render(
        make_view(results, review, (pictures or Pictures()).within(limits.bytes), comparison or Comparison(), limits)
    )
    with replacing(results.folder / REPORT) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")


def make_view(
    results: Results,
    review: Review,
    pictures: Pictures,
    comparison: Comparison,
    limits: Limits,
) -> dict[str, Any]:
    """All values of the page; arguments as of `write_report`."""
    summary = results.summary
    by_pair = group_misses(results.misses)
    cards = _cards(results, review.issues, pictures)
    columns, rows = confusion_rows(results)
    counts = _issue_counts(review.issues)
    reviewed = list(_page_rows(review, cards, pictures, limits))
    view = {
        "summary": summary,
        "model": summary["model"],
        "title": f"{summary['model']['name']}: misses",
        "heading": _heading(summary),
        "written": f"{datetime.now().astimezone():%d %B %Y, %H:%M}",
        "calibration": calibration(results),
        "issue_types": ISSUE_TYPES,
        "issue_notes": NOTES,
        "weak_below": None if can_doubt(results) else LEAST_ACCURACY,
        "issue_counts": counts,
        "comparison": comparison if comparison.total.images else None,
        "broken_paths": {pair.path for pair in comparison.broken},
        "columns": columns,
        "rows": rows,
        "groups": make_groups(by_pair, cards, results, limits),
        "uncertain": [cards[item.row.path] for item in results.uncertain if cards[item.row.path].picture],
        "uncertain_count": results.uncertain_count,
        "uncertain_below": UNCERTAIN_BELOW,
        "unreadable": results.unreadable,
        "unreadable_more": max(0, summary["failed"] - len(results.unreadable)),
        "class_rows": class_table(results),
        "predictions": results.predictions.most_common(),
        "settings": list(_settings(results)),
        # JSON that cannot end its element.
        "review_data": Markup(page_data(reviewed, review.labels, _place(results))),
    }
    return view | {"sections": list(_sections(view, bool(reviewed)))}


def _page_rows(review: Review, cards: Mapping[str, Card], pictures: Pictures, limits: Limits) -> Iterator[PageRow]:
    """The images to decide about; most of what is shown of them, the page has already."""
    for row in review.rows[: limits.pictures + limits.listed]:
        card = cards.get(row.path)
        if card is None or card.issue is None:
            yield PageRow(row=row)
            continue
        yield PageRow(
            row=row,
            card=f"miss-{card.rank}",
            href=card.href,
            top=card.row.top,
            nearest=pictures.similar.get(row.path, ()),
            same=[path for _, path in card.same if path != row.path],
        )


def _cards(results: Results, issues: Mapping[str, LabelIssue], pictures: Pictures) -> dict[str, Card]:
    """A card for each miss and each uncertain answer, by path."""
    cards = {
        item.row.path: Card(
            item.row,
            issues.get(item.row.path),
            pictures.thumbnails.get(item.row.path, ""),
            pictures.heatmaps.get(item.row.path, ""),
            rank,
        )
        for rank, item in enumerate((*most_suspicious_first(results.misses, issues), *results.uncertain))
    }
    same: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for path, card in cards.items():
        if card.issue and card.issue.content:
            same[card.issue.content].append((card.rank, path))
    for content in same.values():
        for _, path in content:
            cards[path] = replace(cards[path], same=content)
    return cards


def _heading(summary: Mapping[str, Any]) -> str:
    if not summary["labelled"]:
        return f"{summary['answered']:,} predictions, without labels to compare them with"
    if not summary["misses"]:
        return f"All {summary['labelled']:,} predictions are right"
    return f"{summary['misses']:,} of {summary['labelled']:,} predictions are wrong"


def _issue_counts(issues: Mapping[str, LabelIssue]) -> list[tuple[str, int]]:
    counts = Counter(issue.type for issue in issues.values())
    return [(name, counts[name]) for name in ISSUE_TYPES if counts[name]]


def _sections(view: Mapping[str, Any], has_review: bool) -> Iterator[tuple[str, str, int | None]]:
    if view["comparison"]:
        yield "comparison", "Previous model", None
    if view["groups"]:
        yield "confusion", "Confusion matrix", None
    if has_review:
        yield "decide", "Decide", None
    if view["groups"]:
        yield "misses", "Misses", view["summary"]["misses"]
    if view["uncertain"]:
        yield "uncertain", "Uncertain", view["uncertain_count"]
    if view["unreadable"]:
        yield "unreadable", "Could not be read", view["summary"]["failed"]
    yield "classes", "Classes", None
    if view["summary"]["labelled"]:
        yield "calibration", "Calibration", None
    yield "settings", "Settings", None


def _merged(merges: Mapping[str, str]) -> str:
    folders: dict[str, list[str]] = {}
    for folder, name in merges.items():
        folders.setdefault(name, []).append(folder)
    return "; ".join(f"{', '.join(merged)} count as {name}" for name, merged in folders.items())


def _day(moment: str) -> str:
    """An ISO time in words; other text unchanged."""
    try:
        return f"{datetime.fromisoformat(moment):%-d %B %Y, %H:%M}"
    except ValueError:
        return moment


def _place(results: Results) -> Path:
    """Where the results are found; if the output folder is in an object store, they are only written here."""
    return Path(results.summary.get("output", results.folder))


def _settings(results: Results) -> Iterator[tuple[str, str]]:
    summary = results.summary
    model = summary["model"]
    version = f"{model['name']} version {', '.join(model['versions']) or '-'}"
    yield "Model", f"{version}, {model['precision']}, exported {_day(model['created'])}"
    if model["merges"]:
        yield "Merged classes", _merged(model["merges"])
    for name, value in summary["arguments"].items():
        if value not in (None, [], False):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else "yes" if value is True else value
            yield name.replace("_", " ").capitalize(), str(shown)
    if summary["images_per_second"]:
        yield "Speed", f"{summary['images_per_second']:.0f} images/s, {summary['seconds']:.1f} s in all"
    yield "Results", str(_place(results))
