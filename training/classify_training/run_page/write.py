"""The page of a run, `report.html`: what a training was given, how it went, and what the model gets wrong.

Beside it lies `review.csv`, with the images to decide about.
"""

from base64 import b64encode
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from classify_serving.contract.text import error_reason, printable
from classify_serving.exchange.earlier_review import keep_decisions
from classify_serving.exchange.review import REVIEW, write_review
from classify_serving.files import replace_file
from classify_serving.review_page.page import page_data, page_part, page_script, security_policy
from classify_training.audit.findings import Finding, find_issues_of_run
from classify_training.audit.misses import find_misses
from classify_training.audit.review_rows import Pictures, page_rows, review_rows
from classify_training.audit.training_labels import TrainingLabels
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
        labels: what out-of-fold models think of the labels; None if these were not asked.
        confirmed: (SHA-256, label) that a person has confirmed.
    """

    plan: Plan
    config: TrainConfig
    state: State
    evaluation: Evaluation
    baseline: Baseline
    remarks: Sequence[Remark]
    labels: TrainingLabels | None = None
    confirmed: Collection[tuple[str, str]] = frozenset()

    @cached_property
    def misses(self) -> list[Finding]:
        """The misclassified test images, the surest first."""
        return find_misses(self.evaluation, self.plan)


def write_run_page(facts: RunFacts, model: str, seconds: float, figures: Mapping[str, Path], folder: Path) -> None:
    """Write `review.csv`, and the page as one file of HTML that needs no other file and no network.

    Args:
        facts: about the run.
        model: name and version of the model, such as `pets 3`.
        seconds: duration of the training.
        figures: name -> PNG file: `curves` and `augmented`; files that do not exist are left out.
        folder: of the run.

    Raises:
        RunError: a file cannot be written.
        Interrupted: a signal arrived.
    """
    judged = facts.labels.judged if facts.labels else None
    findings = find_issues_of_run(facts.plan.dataset, judged, facts.misses, facts.confirmed)
    rows = keep_decisions(review_rows(facts.plan.dataset, findings), [])
    similar = facts.labels.similar if facts.labels else None
    shown = page_rows(facts.plan.dataset, findings, rows, similar, facts.config.quiet, _card_ids(facts))
    page = _render(facts, model, seconds, figures, page_data(shown, facts.plan.dataset.found, folder))
    try:
        write_review(folder / REVIEW, rows)
        replace_file(folder / RUN_PAGE, page.encode())
    except OSError as error:
        raise RunError(
            f"cannot write {error.filename or folder} ({error_reason(error)}): free disk space, check permissions, or"
            " choose other --runs"
        ) from error


def _render(
    facts: RunFacts,
    model: str,
    seconds: float,
    figures: Mapping[str, Path],
    data: str,
) -> str:
    """The page as HTML; all values but `data`, the result of `page_data`, are escaped."""
    environment = page_templates(_PACKAGE)
    environment.filters["percent"] = lambda share: f"{share:.1%}"
    plan, misses, script = facts.plan, facts.misses[:MOST_MISSES], page_script()
    *counts, total = plan_rows(plan)
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
        train_counts=plan.class_counts(plan.indices("train")),
        misses=list(_cards(plan, misses)),
        miss_count=len(facts.misses),
        columns=PLAN_COLUMNS,
        text_columns=TEXT_COLUMNS,
        rows=counts,
        total=total,
        settings=list(_settings(facts.config)),
        figures={name: _png(file) for name, file in figures.items() if file.is_file()},
        policy=Markup(security_policy(script)),
        # Our own files, without any text from the run; the data cannot end their element.
        style=Markup((Path(__file__).parent / "page" / "report.css").read_text(encoding="utf-8"))
        + Markup(page_part("decide.css")),
        script=Markup(script),
        section=Markup(page_part("decide.html")),
        data=Markup(data),
    )


def _card_ids(facts: RunFacts) -> Mapping[int, str]:
    """Place of each shown miss in the dataset -> id of its card on the page."""
    shown = facts.misses[:MOST_MISSES]
    return {miss.place: f"miss-{number}" for number, miss in enumerate(shown) if miss.place is not None}


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


def _cards(plan: Plan, misses: Sequence[Finding]) -> Iterator[dict[str, Any]]:
    """Test misses as the page shows them."""
    pictures = Pictures(plan.dataset)
    for miss in misses:
        assert miss.place is not None
        yield {
            "picture": pictures.of(miss.place, miss.file.path),
            "true": plan.class_names[plan.targets[miss.place]],
            "predicted": miss.suggested,
            "probability": miss.probability,
            "path": plan.dataset.relative_path(miss.file.path),
        }


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
