"""The tuner against simulated servers: no clock but the simulation's."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify_client.inference.tuning import MOST_IN_FLIGHT, Setting, Tuner

Rate = Callable[[Setting], float]
IMAGE = 128 * 128 * 3


def run(tuner: Tuner, rate: Rate, batches: int = 2000) -> Setting:
    """Answer batches in turn at the images/s that a server has under each setting."""
    now = 0.0
    for _ in range(batches):
        sent_as = tuner.setting
        now += sent_as.batch_size / rate(sent_as)
        tuner.answered(sent_as, sent_as.batch_size, now)
    assert tuner.settled
    return tuner.setting


def on_a_cpu(setting: Setting) -> float:
    """Size makes no difference; a second request hides the time on the wire."""
    return 45.0 if setting.in_flight > 1 else 38.0


def on_a_gpu(setting: Setting) -> float:
    """30 ms for any batch up to 128."""
    return min(setting.batch_size, 128) / 0.03


def far_away(setting: Setting) -> float:
    """Each request takes 200 ms on the way, in which others are served, up to 500 images/s."""
    return min(500.0, setting.in_flight * setting.batch_size / (0.2 + setting.batch_size / 500))


def short_of_memory(setting: Setting) -> float:
    """Slower with each image more."""
    return 100.0 / setting.batch_size


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (on_a_cpu, Setting(16, 2)),
        (on_a_gpu, Setting(128, 2)),
        (short_of_memory, Setting(1, 2)),
    ],
)
def test_it_settles_on_what_is_fastest(rate: Rate, expected: Setting) -> None:
    assert run(Tuner(None, None, 1, IMAGE), rate) == expected


def test_a_server_far_away_gets_enough_to_do() -> None:
    assert far_away(run(Tuner(None, None, 1, IMAGE), far_away)) > 450


@given(st.lists(st.floats(0.5, 2), min_size=200, max_size=200), st.sampled_from([on_a_cpu, on_a_gpu, far_away]))
def test_it_settles_whatever_the_noise_and_never_asks_for_too_much(noise: list[float], rate: Rate) -> None:
    tuner = Tuner(None, None, 2, IMAGE)
    noises = iter(noise * 20)

    def noisy(setting: Setting) -> float:
        assert setting.batch_size * IMAGE <= 16 << 20
        assert setting.in_flight <= MOST_IN_FLIGHT
        return rate(setting) * next(noises)

    run(tuner, noisy)


@given(st.integers(1, 500), st.integers(1, 64))
def test_fixed_values_are_kept(batch_size: int, in_flight: int) -> None:
    tuner = Tuner(batch_size, in_flight, 3, IMAGE)
    tuner.slow_down()
    tuner.batch_at_most(1)
    assert run(tuner, far_away, 10) == Setting(batch_size, in_flight)
    assert run(Tuner(batch_size, None, 1, IMAGE), far_away).batch_size == batch_size
    assert run(Tuner(None, in_flight, 1, IMAGE), far_away).in_flight == in_flight


def test_several_servers_all_get_work_from_the_start() -> None:
    assert Tuner(None, None, 3, IMAGE).setting.in_flight == 6


def test_a_server_that_pushes_back_gets_less() -> None:
    tuner = Tuner(None, None, 4, IMAGE)

    def takes_four(setting: Setting) -> float:
        if setting.in_flight > 4:
            tuner.slow_down()
        return far_away(setting)

    assert run(tuner, takes_four).in_flight <= 4


def test_a_server_that_slow_down_once_is_tried_again() -> None:
    tuner = Tuner(16, None, 4, IMAGE)
    tuner.slow_down()
    assert tuner.setting.in_flight == 4
    assert run(tuner, far_away).in_flight >= 8


def test_a_refused_size_is_not_tried_again() -> None:
    tuner = Tuner(None, None, 1, IMAGE)
    tuner.batch_at_most(8)
    assert run(tuner, on_a_gpu).batch_size == 8


def test_answers_of_an_earlier_setting_say_nothing_about_this_one() -> None:
    tuner = Tuner(None, None, 1, IMAGE)
    for at in range(100):
        tuner.answered(Setting(1, 1), 1, float(at))
    assert tuner.setting == Setting(16, 2)
