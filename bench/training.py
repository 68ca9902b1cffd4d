"""What training is worth, on a dataset with a test folder: `make bench-train`.

Each table is printed as Markdown; docs/benchmarks.md says what came out, where and when.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from classify_serving.quiet import import_tensorflow
from classify_training.config import ARTICLE, AugmentConfig, DataConfig, FitConfig, TrainConfig

SIZE = 32


@dataclass(frozen=True)
class Outcome:
    """One training: marks on the test split in 0-1, and seconds from reading the dataset to the exported model.

    `to_best` are the seconds of its epochs up to the one whose weights were kept.
    """

    accuracy: float
    macro_f1: float
    small_recall: float
    seconds: float
    to_best: float


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--weights", required=True, help="Weights of VGG16(include_top=False).")
@click.option("--seeds", type=click.IntRange(1), default=5)
@click.option("--only", type=click.Choice(["recipes", "balance", "erasing", "pipeline"]), multiple=True)
def main(dataset: Path, weights: str, seeds: int, only: tuple[str, ...]) -> None:
    """Compare recipes, balancing and erasing over several seeds, and the input pipeline with Keras' old one."""
    import_tensorflow()
    parts = only or ("recipes", "balance", "erasing", "pipeline")
    with tempfile.TemporaryDirectory() as folder:
        base = TrainConfig(
            data=DataConfig(dataset=dataset, size=SIZE, cache=Path(folder) / "cache"),
            fit=FitConfig(weights=weights),
            output=Path(folder) / "models" / "bench",
            runs=Path(folder) / "runs",
            resume=False,
            quiet=True,
        )
        variants = dict(_variants(base))
        for part in parts:
            if part == "pipeline":
                _compare_pipelines(base)
            else:
                _compare(part, {name: variants[name] for name in _TABLES[part]}, seeds)


_TABLES = {
    "recipes": ("default", "article"),
    "balance": ("default", "weights", "no balancing"),
    "erasing": ("default", "one colour", "no erasing"),
}


def _variants(base: TrainConfig) -> Iterator[tuple[str, TrainConfig]]:
    yield "default", base
    yield "article", _article(base)
    yield "weights", replace(base, data=replace(base.data, balance="weights"))
    yield "no balancing", replace(base, data=replace(base.data, balance="none"))
    yield "one colour", replace(base, augment=AugmentConfig(erase_fill="colour"))
    yield "no erasing", replace(base, augment=AugmentConfig(erase=0.0))


def _article(base: TrainConfig) -> TrainConfig:
    values: dict[str, Any] = dict(ARTICLE)
    augment = replace(base.augment, erase=values.pop("erase"))
    return replace(base, augment=augment, fit=replace(base.fit, **values))


def _compare(title: str, configs: Mapping[str, TrainConfig], seeds: int) -> None:
    print(f"\n### {title}\n")
    print("| | accuracy, mean (each seed) | macro-F1 | recall of small classes | seconds a run | to its best |")
    print("|---|---|---|---|---|---|", flush=True)
    for name, config in configs.items():
        outcomes = [_run(config, seed) for seed in range(1, seeds + 1)]
        each = ", ".join(f"{100 * outcome.accuracy:.1f}" for outcome in outcomes)
        cells = [
            f"{_mean(outcomes, 'accuracy'):.1%} ({each})",
            f"{_mean(outcomes, 'macro_f1'):.1%}",
            f"{_mean(outcomes, 'small_recall'):.1%}",
            f"{statistics.median(outcome.seconds for outcome in outcomes):.0f}",
            f"{statistics.median(outcome.to_best for outcome in outcomes):.0f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _mean(outcomes: list[Outcome], name: str) -> float:
    return statistics.mean(getattr(outcome, name) for outcome in outcomes)


def _run(config: TrainConfig, seed: int) -> Outcome:
    from classify_training.plan import make_plan
    from classify_training.train import train

    config = replace(config, data=replace(config.data, seed=seed))
    start = time.perf_counter()
    plan = make_plan(config.data, quiet=True)
    trained = train(plan, config)
    seconds = time.perf_counter() - start
    report = trained.evaluation.report()
    counts: dict[str, int] = {}
    for folder, count in trained.metadata.train_counts_before.items():
        name = trained.metadata.merges.get(folder, folder)
        counts[name] = counts.get(name, 0) + count
    small = [name for name, count in counts.items() if count < statistics.median(counts.values())]
    return Outcome(
        accuracy=report["accuracy"],
        macro_f1=report["macro_f1"],
        small_recall=statistics.mean(report["classes"][name]["recall"] for name in small),
        seconds=seconds,
        to_best=_seconds_to_best(trained.run / "history.csv"),
    )


def _seconds_to_best(history: Path) -> float:
    import csv

    with history.open(newline="") as file:
        epochs = list(csv.DictReader(file))
    best = min(range(len(epochs)), key=lambda place: float(epochs[place]["val_calibrated"]))
    return sum(float(epoch["seconds"]) for epoch in epochs[: best + 1])


def _compare_pipelines(base: TrainConfig) -> None:
    """Augmented images a second: flips, shifts, rotation and erasing, in batches of 32."""


if __name__ == "__main__":
    main()
