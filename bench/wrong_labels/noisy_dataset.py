"""Files in wrong folders, on purpose, and the commands that a benchmark runs on them."""

import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from classify_serving.contract.folders import walk_images
from classify_serving.files import sha256_of

TRAIN = str(Path(sys.executable).with_name("classify-train"))
CLIENT = str(Path(sys.executable).with_name("classify-client"))


def run(*command: str | Path) -> None:
    """Run a command; it must succeed."""
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def network_options(weights: str, image_size: int, flip: bool) -> tuple[str, ...]:
    """The options that an audit and a training have in common."""
    return "--weights", weights, "--image-size", str(image_size), "--flip" if flip else "--no-flip"


def plant(labelled: Path, share: float, seed: int) -> Mapping[str, str]:
    """Move a share of the files into another label's folder; gives SHA-256 -> true label of those."""
    chance = random.Random(seed)
    labels = sorted(path for path in labelled.iterdir() if path.is_dir())
    files = list(walk_images(labelled))
    planted = {}
    for path in chance.sample(files, round(share * len(files))):
        target = chance.choice([label for label in labels if label != path.parent])
        digest = sha256_of(path)
        planted[digest] = path.parent.name
        path.rename(target / f"{digest[:12]}{path.suffix}")
    return planted
