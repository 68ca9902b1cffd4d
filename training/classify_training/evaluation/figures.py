"""Figures of a training: learning curves, confusion matrix, augmented images."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from classify_serving.contract.text import error_reason
from classify_serving.files import replacing
from classify_training.errors import RunError
from classify_training.fitting.checkpoint import Epoch

_DPI: Final = 120
_LONGEST_NAME: Final = 24
_BLUE, _ORANGE = "#1f5fa8", "#d9730d"


def draw_curves(history: Sequence[Epoch], path: Path) -> None:
    """Draw loss and accuracy of training and validation over all epochs; a line marks the start of each phase.

    Args:
        history: all epochs.
        path: PNG file to write.

    Raises:
        RunError: the file cannot be written.
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    _curves(loss, "loss", [epoch.loss for epoch in history], [epoch.val_loss for epoch in history])
    if any(epoch.val_loss_calibrated is not None for epoch in history):
        calibrated = np.array([epoch.val_loss_calibrated for epoch in history], float)
        label = "validation, calibrated (selects the kept epoch)"
        loss.plot(np.arange(1, len(history) + 1), calibrated, color=_ORANGE, linestyle="--", label=label)
    _curves(accuracy, "accuracy", [epoch.accuracy for epoch in history], [epoch.val_accuracy for epoch in history])
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (loss, accuracy):
        _mark_phases(axes, [epoch.phase for epoch in history])
        # Below the axes, where it covers no curve.
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, fontsize=8)
    _save(figure, path)


def _curves(axes: Axes, name: str, train: Sequence[float], val: Sequence[float | None]) -> None:
    epochs = np.arange(1, len(train) + 1)
    axes.plot(epochs, train, color=_BLUE, marker="o", markersize=3, label="training (augmented, with dropout)")
    if any(value is not None for value in val):
        axes.plot(epochs, np.array(val, float), color=_ORANGE, marker="o", markersize=3, label="validation")
    axes.set_xlabel("epoch")
    axes.set_title(name, pad=28)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def _mark_phases(axes: Axes, names: Sequence[str]) -> None:
    starts = [place for place, name in enumerate(names) if place == 0 or name != names[place - 1]]
    for number, place in enumerate(starts):
        axes.axvline(place + 0.5, color="grey", linewidth=0.8, linestyle=":")
        # Above the axes, where it covers no curve, and in turns in two lines, because phases may be short.
        height = 1.01 + 0.05 * (number % 2)
        axes.text(place + 0.5, height, names[place], transform=axes.get_xaxis_transform(), color="dimgrey", fontsize=8)


def draw_confusion(matrix: NDArray[np.int64], class_names: Sequence[str], title: str, path: Path) -> None:
    """Draw a confusion matrix: cells show counts, and colour shows fractions of a row.

    Args:
        matrix: int64 [C,C]; rows are true classes, columns are predicted classes.
        class_names: the C names.
        title: title of the figure.
        path: PNG file to write.

    Raises:
        RunError: the file cannot be written.
    """
    count = len(class_names)
    side = 3.0 + 0.42 * count
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=9)
    names = [_shortened(name) for name in class_names]
    axes.set_xticks(range(count), names, rotation=90)
    axes.set_yticks(range(count), names)
    axes.set_xticks(np.arange(count - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title)
    bar = figure.colorbar(image, ax=axes, label="fraction of the true class", shrink=0.7)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    _save(figure, path)


def draw_preview(
    originals: NDArray[np.uint8], augmented: Sequence[NDArray[np.uint8]], names: Sequence[str], path: Path
) -> None:
    """Draw images in the first row, and augmentations of them in the rows below.

    Args:
        originals: uint8 [N,S,S,3], RGB.
        augmented: R arrays uint8 [N,S,S,3], RGB.
        names: class of each image.
        path: PNG file to write.

    Raises:
        RunError: the file cannot be written.
    """
    rows = [originals, *augmented]
    figure = Figure(figsize=(1.5 * len(names) + 1.0, 1.5 * len(rows) + 0.5), layout="constrained")
    grid = figure.subplots(len(rows), len(names), squeeze=False)
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            axes = grid[row][column]
            axes.imshow(image, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(_shortened(names[column]), fontsize=9)
                axes.patch.set_linewidth(2)
        grid[row][0].set_ylabel("original" if row == 0 else f"augmented {row}", fontsize=9)
    _save(figure, path)


def _shortened(name: str) -> str:
    # Matplotlib reads a dollar sign as the start of a formula.
    name = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return name.replace("$", r"\$")


def _save(figure: Figure, path: Path) -> None:
    try:
        with replacing(path) as temporary, warnings.catch_warnings():
            # Of a character in a class name that the font does not have; a box is drawn.
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            figure.savefig(temporary, dpi=_DPI, format="png")
    except OSError as error:
        raise RunError(
            f"cannot write {path} ({error_reason(error)}): free disk space, check permissions, or choose another path"
        ) from error
