"""What models that were not fitted to an image think of its label, for the images that a model was trained on.

Training stores it in the model's version folder. With it, the client ranks misses among these images by evidence that
does not come from a model which has learnt their labels.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from classify_serving.contract.text import error_reason
from classify_serving.exchange.csv_columns import ColumnsError, read_columns

LABEL_SCORES_FILE: Final = "assets.extra/label_scores.csv"
"""In a version's folder."""

_COLUMNS: Final = ("sha256", "label", "suggested", "doubt", "likely_wrong")


class LabelScoresError(Exception):
    """The scores cannot be read; the message names the file and what to do."""


@dataclass(frozen=True)
class LabelScore:
    """What is thought of one label of one image.

    Attributes:
        suggested: the label that is most probable, apart from the given one.
        doubt: ln of how many times it is as probable as the given one.
        is_likely_wrong: whether the given label is likely wrong.
    """

    suggested: str
    doubt: float
    is_likely_wrong: bool


Key = tuple[str, str]
"""SHA-256 and label of an image."""


def label_scores_csv(scores: Iterable[tuple[Key, LabelScore]]) -> bytes:
    """The content of the file, UTF-8."""
    text = io.StringIO(newline="")
    rows = [(*key, s.suggested, f"{s.doubt:.4f}", str(s.is_likely_wrong).lower()) for key, s in scores]
    csv.writer(text).writerows([_COLUMNS, *rows])
    return text.getvalue().encode("utf-8", "backslashreplace")


def read_label_scores(train_manifest: Path) -> Mapping[Key, LabelScore]:
    """Read the scores beside a train manifest; empty if there are none.

    Raises:
        LabelScoresError: the file has other content, or cannot be read.
    """
    path = train_manifest.with_name(Path(LABEL_SCORES_FILE).name)
    if not path.is_file():
        return {}
    try:
        return {
            (digest, label): LabelScore(suggested, float(doubt), likely_wrong == "true")
            for digest, label, suggested, doubt, likely_wrong in read_columns(path, _COLUMNS)
        }
    except (ColumnsError, OSError, ValueError) as error:
        raise LabelScoresError(f"cannot read {path} ({error_reason(error)}): export the model again") from error
