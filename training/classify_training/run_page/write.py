"""The page of a run, `report.html`: what a training was given, how it went, and what the model gets wrong."""

import io
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from PIL import Image
from scipy.special import softmax

from classify_serving.contract.images import ImageError, decode_thumbnail
from classify_serving.contract.text import error_reason, printable
from classify_serving.files import replace_file
from classify_training.config import AugmentConfig, DataConfig, FitConfig, TrainConfig
from classify_training.data.plan import Plan
from classify_training.data.plan_rows import PLAN_COLUMNS, TEXT_COLUMNS, plan_rows
from classify_training.errors import RunError
from classify_training.evaluation.baseline import Baseline
from classify_training.evaluation.evaluate import Evaluation
from classify_training.evaluation.remarks import Remark
from classify_training.fitting.checkpoint import State
from classify_training.html_pages import page_templates

RUN_PAGE: Final = "report.html"

MOST_MISSES: Final = 60
_SIDE: Final = 144
_PACKAGE: Final = "classify_training.run_page"


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Everything that the page tells about.

    Attributes:
        plan: what was trained on.
        config: the configuration.
        state: the final state of the fit.
        evaluation: of the model on the test split.
        baseline: what a linear classifier reaches on the network before training.
        remarks: what to know about the training.
    """

    plan: Plan
    config: TrainConfig
    state: State
    evaluation: Evaluation
    baseline: Baseline
    remarks: Sequence[Remark]


@dataclass(frozen=True, kw_only=True)
class _Miss:
    """A misclassified test image; `picture` is a data URI."""

    picture: str
    true: str
    predicted: str
    probability: float
    path: str


def write_run_page(facts: RunFacts, model: str, seconds: float, figures: Mapping[str, Path], path: Path) -> None:
    """Write the page as one file of HTML that needs no other file and no network.

    Args:
        facts: about the run.
        model: name and version of the model, such as `pets 3`.
        seconds: duration of the training.
        figures: name -> PNG file: `curves` and `augmented`; files that do not exist are left out.
        path: file to write.

    Raises:
        RunError: the file cannot be written.
    """
    page = _render(facts, model, seconds, figures)
    try:
        replace_file(path, page.encode())
    except OSError as error:
        raise RunError(
            f"cannot write {path} ({error_reason(error)}): free disk space, check permissions, or choose other --runs"
        ) from error


def _render(facts: RunFacts, model: str, seconds: float, figures: Mapping[str, Path]) -> str:
    """The page as HTML; all values are escaped, and it has no script."""
    environment = page_templates(_PACKAGE)
    environment.filters["percent"] = lambda share: f"{share:.1%}"
    misses, count = _misses(facts)
    *rows, total = plan_rows(facts.plan)
    report = facts.evaluation.report()
    return environment.get_template("report.html.j2").render(
        model=model,
        minutes=f"{seconds / 60:.1f}",
        report=report,
        compared=facts.baseline.compare(facts.evaluation),
        baseline=facts.baseline,
        remarks=facts.remarks,
        phases=list(_phases(facts.state)),
        confusion=list(_confusion(facts.evaluation)),
        train_counts=facts.plan.class_counts(facts.plan.indices("train")),
        misses=misses,
        miss_count=count,
        columns=PLAN_COLUMNS,
        text_columns=TEXT_COLUMNS,
        rows=rows,
        total=total,
        settings=list(_settings(facts.config)),
        figures={name: _png(file) for name, file in figures.items() if file.is_file()},
        # Our own file, without any text from the run.
        style=Markup((Path(__file__).parent / "page" / "report.css").read_text(encoding="utf-8")),
    )


def _png(file: Path) -> str:
    return "data:image/png;base64," + b64encode(file.read_bytes()).decode()


def _phases(state: State) -> Iterator[dict[str, Any]]:
    """What each phase did, and why it ended."""
    for phase, reason in zip(state.planned, state.ended, strict=False):
        epochs = [epoch for epoch in state.history if epoch.phase == phase.name]
        losses = [epoch.val_loss_calibrated for epoch in epochs if epoch.val_loss_calibrated is not None]
        yield {
            "name": phase.name,
            "epochs": len(epochs),
            "rate": f"{phase.learning_rate:g}",
            "best": f"{min(losses):.3f}" if losses else "",
            "seconds": f"{sum(epoch.seconds for epoch in epochs):.0f}",
            "reason": reason,
        }


def _confusion(evaluation: Evaluation) -> Iterator[tuple[str, list[tuple[int, float]]]]:
    """For each true class the counts of the predicted classes, and their shares of the class."""
    for name, row in zip(evaluation.class_names, evaluation.confusion, strict=True):
        whole = max(1, int(row.sum()))
        yield name, [(int(count), float(count) / whole) for count in row]


def _misses(facts: RunFacts) -> tuple[list[_Miss], int]:
    """The test misses that the model is surest of, and the number of all."""
    evaluation, plan = facts.evaluation, facts.plan
    wrong = np.flatnonzero(evaluation.predicted != evaluation.targets)
    probabilities = softmax(evaluation.logits[wrong].astype(np.float64) / evaluation.temperature, axis=1)
    surest = np.argsort(-probabilities.max(axis=1), kind="stable")[:MOST_MISSES] if len(wrong) else wrong
    found = []
    for place in surest.tolist():
        index = int(evaluation.indices[wrong[place]])
        file = plan.dataset.examples[index].file.path
        found.append(
            _Miss(
                picture=_thumbnail(plan, index, file),
                true=plan.class_names[evaluation.targets[wrong[place]]],
                predicted=plan.class_names[evaluation.predicted[wrong[place]]],
                probability=float(probabilities[place].max()),
                path=plan.dataset.relative_path(file),
            )
        )
    return found, len(wrong)


def _thumbnail(plan: Plan, index: int, file: Path) -> str:
    try:
        pixels = decode_thumbnail(file, _SIDE)
    except ImageError:
        # It was deleted during the training: what the model saw is still there.
        pixels = plan.dataset.pixels(np.array([index]))[0]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=85)
    return "data:image/jpeg;base64," + b64encode(stream.getvalue()).decode()


def _settings(config: TrainConfig) -> Iterator[tuple[str, str, bool]]:
    """Name and value of each option, and whether it differs from the default."""
    defaults = {**asdict(DataConfig(dataset=config.data.dataset)), **asdict(AugmentConfig()), **asdict(FitConfig())}
    for part in (config.data, config.augment, config.fit):
        for name, value in asdict(part).items():
            yield name.replace("_", "-"), _setting(name, value), value != defaults[name]


def _setting(name: str, value: object) -> str:
    """An option's value as a person reads it."""
    if name == "time_budget":
        return f"{value:g} s" if value else "none"
    if name == "learning_rate" and not value:
        return "auto"
    return printable(str(value)) if value not in ({}, None) else "none"
