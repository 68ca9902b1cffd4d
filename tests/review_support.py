"""A folder with a review and its page, as an audit or a run of the client leaves it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from support import write_picture

from classify_serving.exchange.review import ReviewRow, write_review
from classify_serving.files import sha256_of
from classify_serving.review_page.page import PageRow, page_data, page_part, page_script, security_policy
from classify_serving.review_page.thumbnails import thumbnail

LABELS: Final = ("black", "dark grey", "grey", "white")


def make_row(file: Path, root: Path, **columns: str) -> ReviewRow:
    """The line of an image in `root`/<label>/."""
    values = {"predicted": "white", "probability": "0.9", "issue_type": "wrong-label", "proposed": "relabel:white"}
    return ReviewRow(
        path=file.relative_to(root).as_posix(),
        label=file.parent.name,
        sha256=sha256_of(file),
        file=str(file),
        **values | columns,
    )


def write_review_folder(folder: Path, rows: Sequence[ReviewRow]) -> Path:
    """Write review.csv and report.html; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_review(folder / "review.csv", rows)
    script = page_script()
    data = page_data((_page_row(row) for row in rows), LABELS, folder)
    (folder / "report.html").write_text(
        f'<!doctype html><html lang="en" data-decide-first><head><meta charset="utf-8"><title>Review</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{security_policy(script)}">'
        f'<meta name="viewport" content="width=device-width"><style>{page_part("decide.css")}</style></head>'
        f'<body>{page_part("decide.html")}<script type="application/json" id="review-data">{data}</script>'
        f"<script>{script}</script></body></html>"
    )
    return folder


def _page_row(row: ReviewRow) -> PageRow:
    with Path(row.file).open("rb") as file:
        picture = thumbnail(file)
    top = [("white", 0.9), (row.label, 0.06), ("grey", 0.03), ("others", 0.01)]
    return PageRow(row=row, picture=picture, href=Path(row.file).as_uri(), top=top)


def write_dataset(root: Path, counts: dict[str, Sequence[int]]) -> list[Path]:
    """Images of one grey value each, `root`/<label>/<value>.png."""
    return [write_picture(root / label / f"{value}.png", value) for label, values in counts.items() for value in values]
