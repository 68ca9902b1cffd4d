"""One line of the results: what is known of one file, as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Self

from classify_client.inference.pipeline import Result
from classify_client.inputs.sources import Source
from classify_serving.contract.model import TOP_K, ModelMetadata
from classify_serving.exchange.misses import MISS, REVIEW

OK: Final = "ok"
ERROR: Final = "error"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the results, every value as it stands in `predictions.csv`.

    Attributes:
        path: relative to the input folder, with `/`.
        status: `ok` or `error`.
        true_label: name of the nearest folder around the file that the model knows, else empty.
        true_class: that label after the model's merges.
        predicted: the likeliest class, with its probability in 0-1.
        correct: `true`, `false`, or empty without a true label.
        top_2 ... top_5: the next classes, with their probabilities; empty where the model has fewer.
        error: why there is no prediction.
        model, model_version, model_created: what answered.
        size, modified: what tells a later run if the file changed, see `Source.stamp`.
        miss, review: name of its copy in `miss/` and in `review/`, if it has one.
    """

    path: str
    status: str
    true_label: str = ""
    true_class: str = ""
    predicted: str = ""
    probability: str = ""
    correct: str = ""
    top_2: str = ""
    top_2_probability: str = ""
    top_3: str = ""
    top_3_probability: str = ""
    top_4: str = ""
    top_4_probability: str = ""
    top_5: str = ""
    top_5_probability: str = ""
    error: str = ""
    model: str = ""
    model_version: str = ""
    model_created: str = ""
    size: str = ""
    modified: str = ""
    miss: str = ""
    review: str = ""

    @classmethod
    def of(cls, result: Result[Source], metadata: ModelMetadata, labels: bool) -> Self:
        """The line for a result; without `labels` it has no true label."""
        size, modified = result.source.stamp
        row = cls(
            path=result.source.name,
            status=ERROR if result.error else OK,
            error=result.error,
            model=metadata.model_name,
            model_version="" if result.version is None else str(result.version),
            model_created=metadata.created,
            size=size,
            modified=modified,
            **_ranked(result.top),
        )
        return row.with_truth(result.source, metadata, labels)

    def with_truth(self, source: Source, metadata: ModelMetadata, labels: bool) -> Self:
        """The same line with the true label that the file's folder gives it now."""
        truths = ((folder, metadata.true_class(folder)) for folder in source.folders if labels)
        label, true_class = next((truth for truth in truths if truth[1] is not None), ("", None))
        if true_class is None:
            return replace(self, true_label="", true_class="", correct="")
        correct = "" if self.status == ERROR else str(self.predicted == true_class).lower()
        return replace(self, true_label=label, true_class=true_class, correct=correct)

    @property
    def ranked(self) -> int:
        """How many classes it names."""
        return bool(self.probability) + sum(bool(getattr(self, name)) for _, name in _RANKS)

    @property
    def copies(self) -> tuple[str, ...]:
        """Its copies, as paths in the output folder."""
        return tuple(f"{folder}/{name}" for folder, name in ((MISS, self.miss), (REVIEW, self.review)) if name)

    @property
    def is_miss(self) -> bool:
        """Whether the model was wrong about it."""
        return self.correct == "false"


COLUMNS: Final = tuple(field.name for field in fields(Row))
_RANKS: Final = tuple((f"top_{rank}", f"top_{rank}_probability") for rank in range(2, TOP_K + 1))
REALS: Final = frozenset({"probability", *(probability for _, probability in _RANKS)})
WHOLES: Final = frozenset({"model_version", "size"})


def columns(top_k: int) -> tuple[str, ...]:
    """The columns of results with the `top_k` likeliest classes, 1-5."""
    left_out = {name for rank in _RANKS[top_k - 1 :] for name in rank}
    return tuple(name for name in COLUMNS if name not in left_out)


def to_record(row: Row, names: Sequence[str]) -> dict[str, Any]:
    """The row's columns of these names as values with types: float, int, bool or str, and None where one is empty."""
    return {name: _value(name, getattr(row, name)) for name in names}


def from_record(record: Mapping[str, Any]) -> Row:
    """The opposite of `to_record`; columns that are not there are empty.

    Raises:
        TypeError, ValueError: these are no values of a row.
    """
    return Row(**{name: _text(name, value) for name, value in record.items()})


def _value(name: str, text: str) -> Any:
    if not text:
        return None
    if name in REALS:
        return float(text)
    if name in WHOLES:
        return int(text)
    return text == "true" if name == "correct" else text


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in REALS:
        return f"{value:.6f}"
    return str(value).lower() if name == "correct" else str(value)


def _ranked(top: tuple[tuple[str, float], ...]) -> dict[str, str]:
    cells: dict[str, str] = {}
    for rank, (label, probability) in enumerate(top[:TOP_K], start=1):
        cells["predicted" if rank == 1 else f"top_{rank}"] = label
        cells["probability" if rank == 1 else f"top_{rank}_probability"] = f"{probability:.6f}"
    return cells
