"""Figures can be read for few and for many classes, and without a validation split."""

from pathlib import Path

import numpy as np
from PIL import Image

from classify_training.evaluation.figures import draw_confusion, draw_curves
from classify_training.fitting.checkpoint import Epoch


def test_pictures_of_many_classes_grow_with_them(tmp_path: Path) -> None:
    names = [f"class ${number} with a rather long name" for number in range(50)]
    draw_confusion(np.eye(50, dtype=np.int64) * 7, names, "all right", tmp_path / "many.png")
    draw_confusion(np.eye(2, dtype=np.int64), ["a", "b"], "all right", tmp_path / "few.png")
    with Image.open(tmp_path / "many.png") as many, Image.open(tmp_path / "few.png") as few:
        assert many.height > 2000
        assert few.height < 700


def test_curves_are_drawn_without_a_validation_split(tmp_path: Path) -> None:
    draw_curves([Epoch(phase="head", epoch=1, loss=1.0, accuracy=0.5, seconds=1)], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000
