"""The train manifest lists what a model was trained on, and what was left out because of conflicting labels."""

import shutil
from pathlib import Path

from support import write_picture

from classify_serving.exchange.train_manifest import read_train_manifest
from classify_serving.files import sha256_of
from classify_training.config import DataConfig
from classify_training.data.plan import make_plan
from classify_training.evaluation.train_manifest import train_manifest


def test_an_image_with_two_labels_has_both_and_was_not_seen(tmp_path: Path) -> None:
    for label, brightness in (("cat", 10), ("dog", 200)):
        for number in range(5):
            write_picture(tmp_path / "data" / label / f"{number}.png", brightness + number)
    both = write_picture(tmp_path / "data/cat/both.png", 100)
    shutil.copy(both, tmp_path / "data/dog/copy.png")
    plan = make_plan(DataConfig(dataset=tmp_path / "data", image_size=32, min_images=0, cache=tmp_path / "cache"), True)
    (tmp_path / "manifest.csv").write_bytes(train_manifest(plan))
    manifest = read_train_manifest(tmp_path / "manifest.csv")
    assert manifest.labels(sha256_of(both)) == {"cat", "dog"}
    assert not manifest.is_seen(sha256_of(both))
    assert len(manifest.contents) == 11
    assert sum(manifest.is_seen(digest) for digest in manifest.contents) > 5
