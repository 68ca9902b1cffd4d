"""One line of the results: what is known of one file, as text."""

from dataclasses import dataclass, fields, replace
from typing import Final, Self

from classify_client.pipeline import Result
from classify_client.sources import Source
from classify_serving.contract import TOP_K, ModelMetadata

OK: Final = "ok"
ERROR: Final = "error"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of `predictions.csv`, every value as it stands there.

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
        size, modified: bytes and modification time (ns) of the file, which tell a later run if it changed.
        miss: name of its copy in `miss/`, if it is one.
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

    @classmethod
    def of(cls, result: Result, metadata: ModelMetadata, labels: bool) -> Self:
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
    def is_miss(self) -> bool:
        """Whether the model was wrong about it."""
        return self.correct == "false"


COLUMNS: Final = tuple(field.name for field in fields(Row))


def _ranked(top: tuple[tuple[str, float], ...]) -> dict[str, str]:
    cells: dict[str, str] = {}
    for rank, (label, probability) in enumerate(top[:TOP_K], start=1):
        cells["predicted" if rank == 1 else f"top_{rank}"] = label
        cells["probability" if rank == 1 else f"top_{rank}_probability"] = f"{probability:.6f}"
    return cells
