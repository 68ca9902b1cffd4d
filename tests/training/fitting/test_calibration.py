"""Temperature scaling finds what made the probabilities wrong, and the error says how wrong they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify_training.fitting.calibration import calibration_error, fit_temperature, negative_log_likelihood

NONE = np.zeros(0, np.int64)


def sampled(images: int, scale: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the truth's distribution, multiplied by `scale`, and classes drawn from it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (images, 4))
    # The largest of logits with Gumbel noise is a draw from their softmax.
    targets = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return (scale * logits).astype(np.float32), targets


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_a_scale(scale: float) -> None:
    logits, targets = sampled(20000, scale, seed=1)
    temperature = fit_temperature(logits, targets)
    assert temperature == pytest.approx(scale, rel=0.05)
    assert calibration_error(logits / temperature, targets) < 0.02
    if scale != 1:
        assert calibration_error(logits, targets) > 0.1


@given(st.integers(1, 30), st.floats(0.1, 8), st.integers(0, 9))
def test_it_never_makes_the_likelihood_worse(images: int, scale: float, seed: int) -> None:
    logits, targets = sampled(images, scale, seed)
    temperature = fit_temperature(logits, targets)

    def loss(scaled: np.ndarray) -> float:
        unknown = np.mean([negative_log_likelihood(scaled, np.full(images, target)) for target in range(4)])
        return images * negative_log_likelihood(scaled, targets) + float(unknown)

    assert loss(logits / np.float32(temperature)) <= loss(logits) + 1e-3
    assert np.array_equal(logits.argmax(axis=1), (logits / temperature).argmax(axis=1))


@pytest.mark.parametrize("images", [1, 5, 100])
def test_a_few_right_answers_are_no_certainty(images: int) -> None:
    logits = np.tile(np.array([[8.0, 0, 0, 0]], np.float32), (images, 1))
    temperature = fit_temperature(logits, np.zeros(images, np.int64))
    # All images and a quarter of the one whose class is unknown.
    expected = (images + 0.25) / (images + 1)
    loss = negative_log_likelihood(logits / temperature, np.zeros(images, np.int64))
    assert np.exp(-loss) == pytest.approx(expected, 0.01)


def test_without_images_nothing_is_changed() -> None:
    assert fit_temperature(np.zeros((0, 3), np.float32), NONE) == 1


def test_weights_count_images() -> None:
    logits, targets = sampled(50, 1, seed=2)
    twice = np.concatenate([logits, logits[:10]]), np.concatenate([targets, targets[:10]])
    weights = np.where(np.arange(50) < 10, 2, 1).astype(np.float32)
    assert negative_log_likelihood(logits, targets, weights) == pytest.approx(negative_log_likelihood(*twice))


def test_the_error_is_the_gap_between_confidence_and_accuracy() -> None:
    logits = np.log(np.array([[0.9, 0.1]] * 10, np.float32))
    targets = np.array([0] * 6 + [1] * 4)
    assert calibration_error(logits, targets) == pytest.approx(0.3, abs=1e-6)
