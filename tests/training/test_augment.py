"""Random erasing is the paper's, and augmentation keeps shape, range and validation images."""

from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from classify_training.augment import RandomErasing, augmentation
from classify_training.config import AugmentConfig

SIDE = 64
Images = NDArray[np.float32]


def erased(images: Images, **options: Any) -> tuple[Images, NDArray[np.bool]]:
    """The images after erasing, and bool [N,H,W] where they changed."""
    layer = RandomErasing(seed=5, **options)
    after = np.asarray(layer(images, training=True))
    return after, np.any(after != images, axis=-1)


@pytest.fixture
def images() -> Images:
    """300 plain images of a value that noise never takes exactly."""
    return np.full((300, SIDE, SIDE, 3), -1.0, np.float32)


def test_what_is_erased_is_one_rectangle_of_the_papers_measures(images: Images) -> None:
    _, changed = erased(images, probability=1.0)
    areas, aspects = [], []
    for mask in changed:
        (box,) = ndimage.find_objects(mask.astype(int))
        assert mask[box].all(), "it is a full rectangle"
        tall, wide = mask[box].shape
        areas.append(tall * wide / SIDE**2)
        aspects.append(tall / wide)
    assert min(areas) > 0.015
    assert max(areas) < 0.42
    assert max(areas) - min(areas) > 0.3, "areas fill their range"
    assert 0.25 < min(aspects) < 0.6
    assert 2 < max(aspects) < 4


def test_its_place_is_anywhere_in_the_image(images: Images) -> None:
    _, changed = erased(images, probability=1.0)
    assert changed.any(axis=(0, 1)).all(), "every column"
    assert changed.any(axis=(0, 2)).all(), "every row"
    assert not changed.all(axis=0).any()


def test_probability_is_kept(images: Images) -> None:
    _, changed = erased(images)
    assert 0.4 < changed.any(axis=(1, 2)).mean() < 0.6
    assert not erased(images, probability=0.0)[1].any()


def test_noise_is_within_the_range_of_the_images(images: Images) -> None:
    after, changed = erased(images, probability=1.0, values=(0.0, 1.0))
    noise = after[changed]
    assert 0 <= noise.min() < 0.01
    assert 0.99 < noise.max() < 1
    assert noise.mean() == pytest.approx(0.5, abs=0.01)
    assert noise.std() == pytest.approx(np.sqrt(1 / 12), abs=0.01)


def test_one_colour_a_rectangle(images: Images) -> None:
    after, changed = erased(images, probability=1.0, per_pixel=False)
    colours = [np.unique(image[mask], axis=0) for image, mask in zip(after, changed, strict=True)]
    assert all(len(colour) == 1 for colour in colours)
    assert len({colour.tobytes() for colour in colours}) == len(images)


def test_nothing_is_erased_outside_training(images: Images) -> None:
    assert np.array_equal(RandomErasing(1.0)(images), images)


def test_the_layer_survives_saving() -> None:
    layer = RandomErasing(0.3, (0.1, 0.2), (0.5, 2.0), (0.0, 1.0), per_pixel=False, seed=4)
    assert keras.layers.deserialize(keras.layers.serialize(layer)).get_config() == layer.get_config()


def test_the_whole_augmentation_keeps_shape_and_range() -> None:
    pictures = np.random.default_rng(1).uniform(0, 255, (16, 32, 32, 3)).astype(np.float32)
    changed = np.asarray(augmentation(AugmentConfig(), seed=1)(pictures, training=True))
    assert changed.shape == pictures.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert not np.allclose(changed, pictures)
    nothing = AugmentConfig(flip=False, shift=0, rotate=0, erase=0)
    assert np.array_equal(augmentation(nothing, seed=1)(pictures, training=True), pictures)
