"""One line of the results, with typed values; text appears only in the CSV writer, `formats.py`."""

from collections.abc import Collection, Mapping
from typing import Any, Final, Self

import msgspec

from classify_client.inference.batch import Result
from classify_client.inputs.archives import Stamp
from classify_client.inputs.source import Source
from classify_serving.contract.model import TOP_K, ModelMetadata
from classify_serving.exchange.misses import MISS, REVIEW

OK: Final = "ok"
ERROR: Final = "error"
_DECIMALS: Final = 6
"""Of a probability, so that a row reads back equal from every format."""


class Row(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The outcome for one image.

    Attributes:
        path: relative to the input folder, with `/`.
        true_label: name of the nearest folder around the file that the model knows; else empty.
        true_class: that label after the model's merges; else empty.
        top: (class, probability in 0-1), best first; empty if there is no prediction.
        error: why there is no prediction; else empty.
        model, model_version, model_created: the model that answered.
        size, modified: the stamp of its content, see `archives.Stamp`.
        miss, review: name of its copy in `miss/` and in `review/`, if it has one.
    """

    path: str
    true_label: str = ""
    true_class: str = ""
    top: tuple[tuple[str, float], ...] = ()
    error: str = ""
    model: str = ""
    model_version: int | None = None
    model_created: str = ""
    size: int | None = None
    modified: str = ""
    miss: str = ""
    review: str = ""

    @classmethod
    def of(cls, result: Result[Source], metadata: ModelMetadata, labels: bool) -> Self:
        """The row for a result; it has a true label only if `labels` is true."""
        label, true_class = _truth(result.source, metadata, labels)
        return cls(
            path=result.source.name,
            true_label=label,
            true_class=true_class,
            top=tuple((name, round(probability, _DECIMALS)) for name, probability in result.top[:TOP_K]),
            error=result.error,
            model=metadata.model_name,
            model_version=result.version,
            model_created=metadata.created,
            size=result.source.stamp.size,
            modified=result.source.stamp.modified,
        )

    def with_truth(self, source: Source, metadata: ModelMetadata, labels: bool) -> Self:
        """The same row with the true label that the file's folders give it now."""
        label, true_class = _truth(source, metadata, labels)
        if (label, true_class) == (self.true_label, self.true_class):
            return self
        return msgspec.structs.replace(self, true_label=label, true_class=true_class)

    @property
    def is_answered(self) -> bool:
        """Whether there is a prediction."""
        return bool(self.top)

    @property
    def is_labelled(self) -> bool:
        """Whether there is a prediction and the true class is known."""
        return bool(self.top and self.true_class)

    @property
    def is_miss(self) -> bool:
        """Whether the prediction is wrong."""
        return self.is_labelled and self.predicted != self.true_class

    @property
    def predicted(self) -> str:
        """The likeliest class; empty without a prediction."""
        return self.top[0][0] if self.top else ""

    @property
    def probability(self) -> float:
        """Of the likeliest class, in 0-1; 0 without a prediction."""
        return self.top[0][1] if self.top else 0.0

    def probability_of(self, name: str) -> float:
        """The probability of a class, in 0-1; an upper bound if the class is not among the top.

        A class that is not listed has at most the probability of the last listed one, and at most what the listed ones
        leave of 1.
        """
        listed = dict(self.top)
        if name in listed or not self.top:
            return listed.get(name, 0.0)
        return max(0.0, min(self.top[-1][1], 1.0 - sum(listed.values())))

    def is_answered_by(self, metadata: ModelMetadata) -> bool:
        """Whether this very model answered: the same name, version and creation time."""
        model = (metadata.model_name, metadata.model_version, metadata.created)
        return (self.model, self.model_version, self.model_created) == model

    def answers(self, metadata: ModelMetadata, top_k: int) -> bool:
        """Whether a run with this model can keep it: it is an answer of this model, and names enough classes."""
        enough = min(top_k, len(metadata.class_names))
        return self.is_answered and self.is_answered_by(metadata) and len(self.top) >= enough

    def is_about(self, stamp: Stamp) -> bool:
        """Whether the content of its image has surely not changed since, if it has this stamp now."""
        return bool(self.modified) and (self.size, self.modified) == stamp

    def is_below(self, probability: float | None) -> bool:
        """Whether there is a prediction with a lower probability than this one; None is lower than all."""
        return probability is not None and self.is_answered and self.probability < probability

    @property
    def margin(self) -> float:
        """Probability of the true class less that of the likeliest: the lower, the surer is the model of another."""
        return self.probability_of(self.true_class) - self.probability

    @property
    def copies(self) -> tuple[str, ...]:
        """Its copies, as paths in the output folder."""
        return tuple(f"{folder}/{name}" for folder, name in ((MISS, self.miss), (REVIEW, self.review)) if name)


def _truth(source: Source, metadata: ModelMetadata, labels: bool) -> tuple[str, str]:
    """The true label that the folders of a source give it, and its class; empty without one."""
    truths = ((folder, metadata.true_class(folder)) for folder in source.folders if labels)
    return next(((folder, name) for folder, name in truths if name is not None), ("", ""))


_RANKS: Final = tuple(
    ("predicted" if rank == 1 else f"top_{rank}", "probability" if rank == 1 else f"top_{rank}_probability")
    for rank in range(1, TOP_K + 1)
)
_TYPES: Final[Mapping[str, type]] = {
    "path": str,
    "status": str,
    "true_label": str,
    "true_class": str,
    "predicted": str,
    "probability": float,
    "correct": bool,
    **{name: kind for names in _RANKS[1:] for name, kind in zip(names, (str, float), strict=True)},
    "error": str,
    "model": str,
    "model_version": int,
    "model_created": str,
    "size": int,
    "modified": str,
    "miss": str,
    "review": str,
}


_REQUIRED: Final = frozenset(("path", "status", "model", "model_version", "model_created"))


def column_types(top_k: int = TOP_K) -> dict[str, type]:
    """Name and type of each column of results with the `top_k` likeliest classes, 1-5, in their order."""
    left_out = {name for names in _RANKS[top_k:] for name in names}
    return {name: kind for name, kind in _TYPES.items() if name not in left_out}


def to_values(row: Row, top_k: int = TOP_K) -> list[Any]:
    """The row's values in the order of `column_types`: str, int, float or bool; None where a row has no value."""
    ranked: list[Any] = [value for entry in row.top[:top_k] for value in entry]
    ranked += [None] * (2 * top_k - len(ranked))
    return [
        row.path,
        OK if row.top else ERROR,
        row.true_label or None,
        row.true_class or None,
        *ranked[:2],
        not row.is_miss if row.is_labelled else None,
        *ranked[2:],
        row.error or None,
        row.model or None,
        row.model_version,
        row.model_created or None,
        row.size,
        row.modified or None,
        row.miss or None,
        row.review or None,
    ]


def check_columns(columns: Collection[str]) -> None:
    """Raise ValueError if these are not the columns of results."""
    if not set(columns) >= _REQUIRED:
        raise ValueError(f"no columns {', '.join(sorted(_REQUIRED))}")


def from_record(record: Mapping[str, Any]) -> Row:
    """The opposite of `to_values`, from values by column; columns that are missing or unknown are ignored.

    Raises:
        ValueError: these are not the values of a row.
    """
    check_columns(record)
    ranked = [
        (record.get(name) or "", record[probability])
        for name, probability in _RANKS
        if record.get(probability) is not None
    ]
    # Release 0.1 stored NaN if a server sent it: such an answer counts as missing.
    values = {**record, "top": ranked if all(0 <= probability <= 1 for _, probability in ranked) else []}
    cells = (values.get(name) for name in Row.__struct_fields__)
    return msgspec.convert([e if c is None else c for c, e in zip(cells, _EMPTY, strict=True)], Row)


_EMPTY: Final = msgspec.structs.astuple(Row(path=""))
