"""What training is worth, on a dataset: `make bench-train`.

Each table is printed as Markdown; docs/benchmarks.md says what came out, where and when.
"""

import contextlib
import csv
import io
import itertools
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from classify_serving.tensorflow_import import import_tensorflow
from classify_training.config import ARTICLE, AugmentConfig, DataConfig, FitConfig, TrainConfig

if TYPE_CHECKING:
    from classify_training.data.plan import Plan

_TABLES = {
    "default": ("default",),
    "recipes": ("default", "article"),
    "speed": ("default", "frozen layers in every epoch", "float32"),
    "balance": ("default", "weights", "no balancing"),
    "erasing": ("default", "one colour", "no erasing"),
}


@dataclass(frozen=True)
class Outcome:
    """One training: marks on the test split in 0-1, and seconds from reading the dataset to the exported model.

    `to_best` are the seconds of the fit up to the epoch whose weights were kept, `baseline` is the accuracy of the
    linear baseline on (up to 1,000 of) the same test images.
    """

    accuracy: float
    baseline: float
    macro_f1: float
    small_recall: float
    seconds: float
    to_best: float


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--weights", required=True, help="Weights of VGG16(include_top=False).")
@click.option("--seeds", type=click.IntRange(1), default=5)
@click.option("--image-size", type=click.IntRange(32), default=32)
@click.option("--flip/--no-flip", default=True)
@click.option("--time-budget", type=float, default=0.0, help="Seconds for each training of the default.")
@click.option("--only", type=click.Choice([*_TABLES, "grid", "pipeline"]), multiple=True)
@click.option("--grid-epochs", type=click.IntRange(1), default=15, help="Of fine-tuning, in the grid.")
@click.option("--grid-from", type=click.IntRange(1), default=1, help="Number of the first combination of the grid.")
def main(
    dataset: Path,
    weights: str,
    seeds: int,
    image_size: int,
    flip: bool,
    time_budget: float,
    only: tuple[str, ...],
    grid_epochs: int,
    grid_from: int,
) -> None:
    """Compare recipes, balancing and erasing over several seeds, and the input pipeline with Keras' old one.

    `--only grid` trains 24 combinations of hand-set options once each.
    """
    import_tensorflow()
    # Many models in one process make it warn of retracing.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    parts = only or (*(table for table in _TABLES if table != "default"), "pipeline")
    with tempfile.TemporaryDirectory() as folder:
        base = TrainConfig(
            data=DataConfig(dataset=dataset, image_size=image_size, cache=Path(folder) / "cache"),
            augment=AugmentConfig(flip=flip),
            fit=FitConfig(weights=weights, time_budget=time_budget),
            output=Path(folder) / "models" / "bench",
            runs=Path(folder) / "runs",
            resume=False,
            quiet=True,
        )
        variants = dict(_variants(base))
        measured: dict[str, list[Outcome]] = {}
        for part in parts:
            if part == "pipeline":
                _compare_pipelines(base)
                continue
            if part == "grid":
                _print_head(part)
                grid = _grid_from_random if weights == "random" else _grid
                for name, config in itertools.islice(grid(base, grid_epochs), grid_from - 1, None):
                    _print_row(name, [_run(config, 1)])
                continue
            _print_head(part)
            for name in _TABLES[part]:
                if name not in measured:
                    measured[name] = [_run(variants[name], seed) for seed in range(1, seeds + 1)]
                _print_row(name, measured[name])


def _variants(base: TrainConfig) -> Iterator[tuple[str, TrainConfig]]:
    yield "default", base
    yield "article", _article(base)
    yield "weights", replace(base, data=replace(base.data, balance="weights"))
    yield "no balancing", replace(base, data=replace(base.data, balance="none"))
    yield "one colour", replace(base, augment=AugmentConfig(erase_fill="colour"))
    yield "frozen layers in every epoch", replace(base, fit=replace(base.fit, cached_augmentations=0))
    yield "float32", replace(base, fit=replace(base.fit, precision="float32"))
    yield "no erasing", replace(base, augment=AugmentConfig(erase=0.0))


def _article(base: TrainConfig) -> TrainConfig:
    values: dict[str, Any] = dict(ARTICLE)
    augment = replace(base.augment, erase=values.pop("erase"))
    return replace(base, augment=augment, fit=replace(base.fit, **values, time_budget=0.0))


def _grid(base: TrainConfig, epochs: int) -> Iterator[tuple[str, TrainConfig]]:
    """24 combinations that a user might set by hand: what the head takes, depth, and learning rate."""
    for features, unfreeze, rate in itertools.product(
        ("multi-level", "last"), ("none", "block5", "block4", "all"), (1e-5, 1e-4, 3e-4)
    ):
        head_rate = 10 * rate if unfreeze == "none" else 3e-4
        own = {"unfreeze": unfreeze, "learning_rate": rate, "head_learning_rate": head_rate, "epochs": epochs}
        yield f"{features}, {unfreeze}, rate {rate:g}", _by_hand(base, {"head_features": features, **own})


def _grid_from_random(base: TrainConfig, epochs: int) -> Iterator[tuple[str, TrainConfig]]:
    """24 combinations for random weights, of which all layers are trained at once: epochs, features, learning rate."""
    for features, share, rate in itertools.product(("multi-level", "last"), (0.4, 0.8, 1.2), (3e-5, 1e-4, 3e-4, 1e-3)):
        own = {"learning_rate": rate, "epochs": round(share * epochs)}
        yield f"{features}, {own['epochs']} epochs, rate {rate:g}", _by_hand(base, {"head_features": features, **own})


def _by_hand(base: TrainConfig, values: dict[str, Any]) -> TrainConfig:
    fixed: dict[str, Any] = {"schedule": "cosine", "head_epochs": 20, "time_budget": 0.0}
    return replace(base, fit=replace(base.fit, **{**fixed, **values}))


def _print_head(title: str) -> None:
    print(f"\n### {title}\n")
    print("| | accuracy, mean (each seed) | linear baseline | macro-F1 | recall of small classes | seconds | to best |")
    print("|---|---|---|---|---|---|---|", flush=True)


def _print_row(name: str, outcomes: list[Outcome]) -> None:
    each = ", ".join(f"{100 * outcome.accuracy:.1f}" for outcome in outcomes)
    cells = [
        f"{_mean(outcomes, 'accuracy'):.1%} ({each})",
        f"{_mean(outcomes, 'baseline'):.1%}",
        f"{_mean(outcomes, 'macro_f1'):.1%}",
        f"{_mean(outcomes, 'small_recall'):.1%}",
        f"{statistics.median(outcome.seconds for outcome in outcomes):.0f}",
        f"{statistics.median(outcome.to_best for outcome in outcomes):.0f}",
    ]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _mean(outcomes: list[Outcome], name: str) -> float:
    return float(statistics.mean(getattr(outcome, name) for outcome in outcomes))


def _run(config: TrainConfig, seed: int) -> Outcome:
    from classify_training.data.plan import make_plan
    from classify_training.train import train

    config = replace(config, data=replace(config.data, seed=seed))
    start = time.perf_counter()
    plan = make_plan(config.data, quiet=True)
    trained = train(plan, config, started=time.monotonic())
    seconds = time.perf_counter() - start
    report = trained.evaluation.report()
    counts: dict[str, int] = {}
    for folder, count in trained.metadata.train_counts_before.items():
        name = trained.metadata.merges.get(folder, folder)
        counts[name] = counts.get(name, 0) + count
    small = [name for name, count in counts.items() if count < statistics.median(counts.values())]
    compared = trained.baseline.compare(trained.evaluation)
    return Outcome(
        accuracy=report["accuracy"],
        baseline=compared.baseline / compared.images,
        macro_f1=report["macro_f1"],
        small_recall=statistics.mean(report["classes"][name]["recall"] for name in small),
        seconds=seconds,
        to_best=_seconds_to_best(trained.run),
    )


def _seconds_to_best(run: Path) -> float:
    """All of the fit, cached features included, but for the epochs after the best one."""
    with (run / "history.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    # An empty cell: there are no validation images.
    best = min(range(len(epochs)), key=lambda place: float(epochs[place]["val_loss_calibrated"] or -place))
    fit: float = json.loads((run / "metrics.json").read_text())["seconds"]["fit"]
    return fit - sum(float(epoch["seconds"]) for epoch in epochs[best + 1 :])


def _compare_pipelines(base: TrainConfig) -> None:
    """Augmented images a second: flips, shifts, rotation and erasing, in batches of 32, nothing else running."""
    print("\n### input pipeline alone, images/s, median of 5 epochs\n")
    print("| side | ours | ImageDataGenerator, images in memory | ImageDataGenerator, from files |")
    print("|---|---|---|---|", flush=True)
    for size in (32, 128):
        plan = _plan_of_size(base, size)
        config = replace(base, data=replace(base.data, image_size=size))
        ours, memory, files = _ours(plan, config), _old_from_memory(plan, config), _old_from_files(config)
        cells = f"{memory:.0f} ({ours / memory:.1f}x) | {files:.0f} ({ours / files:.1f}x)"
        print(f"| {size} | {ours:.0f} | {cells} |", flush=True)


def _plan_of_size(base: TrainConfig, size: int) -> "Plan":
    """The dataset at another size."""
    from classify_training.data.plan import make_plan

    return make_plan(replace(base.data, image_size=size), quiet=True)


def _ours(plan: "Plan", config: TrainConfig) -> float:
    from classify_training.fitting.input_pipeline import ImagePipeline
    from classify_training.model.classifier import build_classifier

    pipeline = ImagePipeline(build_classifier(2, config.data.image_size, "random"), plan, config)
    return _rate(lambda number: (len(images) for images, *_ in pipeline.epoch(number)))


def _old_from_memory(plan: "Plan", config: TrainConfig) -> float:
    generator = _old_generator()
    images = plan.dataset.pixels(plan.epoch_examples)
    flow = generator.flow(images, batch_size=config.fit.batch_size)
    return _rate(lambda number: (len(flow[place]) for place in range(len(flow))))


def _old_from_files(config: TrainConfig) -> float:
    side = (config.data.image_size, config.data.image_size)
    with contextlib.redirect_stdout(io.StringIO()):
        flow = _old_generator().flow_from_directory(
            config.data.dataset / "train", target_size=side, batch_size=config.fit.batch_size
        )
    return _rate(lambda number: (len(flow[place][0]) for place in range(len(flow))))


def _old_generator() -> Any:
    """The article's, with erasing as a function of one image, by Zhong et al. (2017) in NumPy."""
    import tensorflow as tf

    rng = np.random.default_rng(1)

    def erase(image: NDArray[np.float32]) -> NDArray[np.float32]:
        if rng.random() >= 0.5:
            return image
        height, width, _ = image.shape
        while True:
            area, aspect = rng.uniform(0.02, 0.4) * height * width, rng.uniform(0.3, 1 / 0.3)
            tall, wide = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
            if tall < height and wide < width:
                break
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        image[top : top + tall, left : left + wide] = rng.uniform(0, 255, (tall, wide, 3))
        return image

    return tf.keras.preprocessing.image.ImageDataGenerator(
        horizontal_flip=True,
        width_shift_range=0.1,
        height_shift_range=0.1,
        rotation_range=20,
        preprocessing_function=erase,
    )


def _rate(epoch: Callable[[int], Iterable[int]]) -> float:
    """Median images/s of five epochs, after one that is not counted."""
    rates = []
    for number in range(6):
        start = time.perf_counter()
        images = sum(epoch(number))
        rates.append(images / (time.perf_counter() - start))
    return statistics.median(rates[1:])


if __name__ == "__main__":
    main()
