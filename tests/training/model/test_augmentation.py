"""Random erasing is the paper's, and augmentation keeps shape, range and validation images."""

from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from classify_training.config import AugmentConfig
from classify_training.model.augmentation import Augmentation, RandomAffine, RandomErasing

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


def test_the_layers_survive_saving() -> None:
    for layer in (RandomErasing(0.3, (0.1, 0.2), (0.5, 2.0), (0.0, 1.0), per_pixel=False, seed=4), RandomAffine(False)):
        assert keras.layers.deserialize(keras.layers.serialize(layer)).get_config() == layer.get_config()


def test_moving_is_an_affine_map_about_the_centre() -> None:
    """Compared with SciPy's resampling at the transforms that the layer drew, found from where it put a ramp."""
    side = 21
    y, x = np.mgrid[:side, :side].astype(np.float32)
    ramp = np.stack([x, y, np.ones_like(x)], axis=-1)
    # Wide margins, so that the middle of the ramp says where each pixel came from.
    moved = np.asarray(RandomAffine(flip=True, shift=0.1, rotate=20, seed=3)(np.stack([ramp] * 20), training=True))
    picture = np.random.default_rng(1).uniform(0, 255, (side, side, 1)).astype(np.float32)
    layer = RandomAffine(flip=True, shift=0.1, rotate=20, seed=3)
    pictures = np.asarray(layer(np.stack([picture] * 20), training=True))
    middle = slice(8, 13)
    for places, result in zip(moved, pictures, strict=True):
        across, down = places[middle, middle, 0], places[middle, middle, 1]
        expected = ndimage.map_coordinates(picture[..., 0], [down, across], order=1)
        np.testing.assert_allclose(result[middle, middle, 0], expected, atol=0.01)
        steps = np.diff(across, axis=1), np.diff(down, axis=1)
        assert abs(np.degrees(np.arctan2(steps[1].mean(), abs(steps[0].mean())))) <= 20.001
        centre = places[10, 10, :2] - 10
        assert np.abs(centre).max() <= 0.1 * side + 1e-4
    mirrored = [np.diff(places[10, 8:13, 0]).mean() < 0 for places in moved]
    assert 4 <= sum(mirrored) <= 16


def test_what_moves_in_at_the_edges_repeats_them() -> None:
    picture = np.zeros((1, 32, 32, 3), np.float32)
    picture[:, :, :16] = 200
    moved = np.asarray(RandomAffine(flip=False, shift=0.3, rotate=0, seed=1)(np.repeat(picture, 16, 0), training=True))
    assert set(np.unique(moved[:, :, 0])) == {200.0}
    assert set(np.unique(moved[:, :, -1])) == {0.0}


def test_bytes_and_floats_are_changed_alike() -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (16, 33, 33, 3), np.uint8)
    layers = Augmentation(AugmentConfig())
    one = np.asarray(layers(pictures, training=True, seed=[1, 2]))
    np.testing.assert_allclose(layers(pictures.astype(np.float32), training=True, seed=[1, 2]), one, atol=1e-3)
    assert not np.allclose(layers(pictures, training=True, seed=[1, 3]), one)
    assert np.array_equal(layers(pictures), pictures)


def test_the_whole_augmentation_keeps_shape_and_range() -> None:
    pictures = np.random.default_rng(1).uniform(0, 255, (16, 32, 32, 3)).astype(np.float32)
    changed = np.asarray(Augmentation(AugmentConfig(), seed=1)(pictures, training=True))
    assert changed.shape == pictures.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert not np.allclose(changed, pictures)
    nothing = AugmentConfig(flip=False, shift=0, rotate=0, erase=0)
    assert np.array_equal(Augmentation(nothing)(pictures, training=True), pictures)
