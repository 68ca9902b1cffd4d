"""Fixtures of the tests of audits and reviews."""

import shutil
from pathlib import Path
from typing import Final

import pytest
from PIL import Image
from training_support import write_noisy

COLOURS: Final = {"blue": (30, 60, 200), "green": (30, 180, 60), "red": (200, 40, 40), "rare": (200, 190, 30)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three colours and a rare fourth one, with two mistakes, a picture twice, a near-duplicate and a broken file."""
    root = tmp_path / "data"
    for place, (label, colour) in enumerate(COLOURS.items()):
        for number in range(6 if label == "rare" else 24):
            write_noisy(root / label / f"{number}.png", colour, 100 * place + number)
    write_noisy(root / "red/really green.png", COLOURS["green"], 901)
    # Both classes are merged into one in a training; only an audit can tell them apart.
    write_noisy(root / "rare/really red.png", COLOURS["red"], 902)
    shutil.copy(root / "blue/0.png", root / "green/also blue.png")
    Image.open(root / "blue/1.png").resize((80, 80)).save(root / "red/larger.png")
    (root / "red/broken.png").write_text("no image")
    return root
