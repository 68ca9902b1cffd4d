"""The part of a page in which a person decides about images: HTML, style, script, and the images as data.

`classify-client` puts it into its report, and `classify-train` into the page of an audit or of a training run. Opened
as a file, the page keeps decisions in the browser until they are downloaded as `review.csv`; sent by `server.py`, it
has every decision written at once.
"""

import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from classify_serving.exchange.issue_types import ISSUE_TYPES
from classify_serving.exchange.review import ReviewRow

SECURITY_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What every page forbids; scripts, and where images come from, are added to it."""

Top = Sequence[tuple[str, float]]


@dataclass(frozen=True)
class SimilarImage:
    """An image to compare with: data URI of its thumbnail, its path and its label; the thumbnail may be missing."""

    picture: str
    path: str
    label: str


@dataclass(frozen=True, kw_only=True)
class PageRow:
    """An image to decide about, with what the page shows of it.

    Attributes:
        row: its line in the review.
        picture: data URI of its thumbnail; empty if there is none, or if the page shows it elsewhere.
        card: id of the element of the page that shows it already; empty if there is none.
        heat: data URI of its heat map; empty if there is none.
        href: address of the image itself, relative to the page or absolute; empty if not known.
        top: the most probable classes with their probabilities, 0-1.
        nearest: the most similar images of the dataset, all of them or those of the predicted class.
        same: paths of the copies of this picture under other labels.
    """

    row: ReviewRow
    picture: str = ""
    card: str = ""
    heat: str = ""
    href: str = ""
    top: Top = ()
    nearest: Sequence[SimilarImage] = ()
    same: Sequence[str] = ()


def page_data(rows: Iterable[PageRow], labels: Iterable[str], folder: Path) -> str:
    """The content of the element `review-data`: JSON that cannot end the element it is in.

    Args:
        rows: the images, in the order in which to decide.
        labels: those that an image can be given.
        folder: where the page is written. A browser keeps decisions for each folder, so that they outlast another run.
    """
    entries = [_entry(row) for row in rows]
    content = {
        "id": hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32],
        "columns": [field.name for field in fields(ReviewRow)],
        "labels": sorted(labels),
        "issues": dict(ISSUE_TYPES),
        "rows": entries,
    }
    return json.dumps(content, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")


def _entry(row: PageRow) -> dict[str, Any]:
    shown = {"picture": row.picture, "card": row.card, "heat": row.heat, "href": row.href, "same": list(row.same)}
    top = [[name, round(probability, 4)] for name, probability in row.top]
    nearest = [asdict(each) for each in row.nearest]
    extras = {**shown, "top": top, "nearest": nearest}
    return asdict(row.row) | {name: value for name, value in extras.items() if value}


@cache
def page_part(name: str) -> str:
    """A file of this page: such as `decide.html`; it has no text from a run."""
    return resources.files("classify_serving.review_page").joinpath("page", name).read_text(encoding="utf-8")


def page_script() -> str:
    """The script of this page."""
    return page_part("csv.js") + page_part("decide.js")


def script_hash(script: str) -> str:
    """The source of a script for a content security policy."""
    return f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def security_policy(*scripts: str) -> str:
    """The content security policy of a page that is opened as a file: only these scripts, and no network.

    Images may be files beside the page, so that they are shown in full size where they exist.
    """
    allowed = " ".join(map(script_hash, scripts))
    return f"{SECURITY_POLICY}; img-src data: file:; script-src {allowed}"


def rows_as_json(rows: Iterable[ReviewRow]) -> list[Mapping[str, str]]:
    """Rows of a review as the page's script takes them."""
    return [asdict(row) for row in rows]
