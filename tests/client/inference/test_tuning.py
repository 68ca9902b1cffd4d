"""The tuner against simulated servers, in simulated time."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classify_client.inference.tuning import MAX_IN_FLIGHT, Setting, Tuner

Rate = Callable[[Setting], float]
IMAGE = 128 * 128 * 3


def run(tuner: Tuner, rate: Rate, batches: int = 2000) -> Setting:
    """Answer batches one after the other, at the rate in images/s of the current setting; gives the last setting."""
    now = 0.0
    for _ in range(batches):
        sent_as = tuner.setting
        now += sent_as.batch_size / rate(sent_as)
        tuner.answered(sent_as, sent_as.batch_size, now)
    assert tuner.settled
    return tuner.setting


def cpu_server(setting: Setting) -> float:
    """Batch size makes no difference; a second request in flight hides the transfer time of the first."""
    return 45.0 if setting.in_flight > 1 else 38.0


def gpu_server(setting: Setting) -> float:
    """A batch of up to 128 images takes 30 ms."""
    return min(setting.batch_size, 128) / 0.03


def distant_server(setting: Setting) -> float:
    """Each request spends 200 ms on the network, while others are answered; at most 500 images/s."""
    return min(500.0, setting.in_flight * setting.batch_size / (0.2 + setting.batch_size / 500))


def server_short_of_memory(setting: Setting) -> float:
    """Slower with each additional image in a batch."""
    return 100.0 / setting.batch_size


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (cpu_server, Setting(16, 2)),
        (gpu_server, Setting(128, 2)),
        (server_short_of_memory, Setting(1, 2)),
    ],
)
def test_the_tuner_settles_on_the_fastest_setting(rate: Rate, expected: Setting) -> None:
    assert run(Tuner(None, None, 1, IMAGE), rate) == expected


def test_a_server_with_high_latency_gets_enough_requests_in_flight() -> None:
    assert distant_server(run(Tuner(None, None, 1, IMAGE), distant_server)) > 450


@given(
    st.lists(st.floats(0.5, 2), min_size=200, max_size=200), st.sampled_from([cpu_server, gpu_server, distant_server])
)
def test_the_tuner_settles_within_its_limits_when_rates_are_noisy(noise: list[float], rate: Rate) -> None:
    tuner = Tuner(None, None, 2, IMAGE)
    factors = iter(noise * 20)

    def noisy_server(setting: Setting) -> float:
        assert setting.batch_size * IMAGE <= 16 << 20
        assert setting.in_flight <= MAX_IN_FLIGHT
        return rate(setting) * next(factors)

    run(tuner, noisy_server)


@given(st.integers(1, 500), st.integers(1, 64))
def test_values_chosen_by_the_user_never_change(batch_size: int, in_flight: int) -> None:
    tuner = Tuner(batch_size, in_flight, 3, IMAGE)
    tuner.slow_down()
    tuner.batch_at_most(1)
    assert run(tuner, distant_server, 10) == Setting(batch_size, in_flight)
    assert run(Tuner(batch_size, None, 1, IMAGE), distant_server).batch_size == batch_size
    assert run(Tuner(None, in_flight, 1, IMAGE), distant_server).in_flight == in_flight


def test_the_search_starts_with_two_requests_in_flight_per_server() -> None:
    assert Tuner(None, None, 3, IMAGE).setting.in_flight == 6


def test_a_server_that_asks_for_fewer_requests_gets_fewer() -> None:
    tuner = Tuner(None, None, 4, IMAGE)

    def accepts_four(setting: Setting) -> float:
        if setting.in_flight > 4:
            tuner.slow_down()
        return distant_server(setting)

    assert run(tuner, accepts_four).in_flight <= 4


def test_more_requests_in_flight_are_tried_again_after_one_slow_down() -> None:
    tuner = Tuner(16, None, 4, IMAGE)
    tuner.slow_down()
    assert tuner.setting.in_flight == 4
    assert run(tuner, distant_server).in_flight >= 8


def test_a_refused_batch_size_is_not_tried_again() -> None:
    tuner = Tuner(None, None, 1, IMAGE)
    tuner.batch_at_most(8)
    assert run(tuner, gpu_server).batch_size == 8


def test_answers_to_requests_of_an_earlier_setting_are_ignored() -> None:
    tuner = Tuner(None, None, 1, IMAGE)
    for at in range(100):
        tuner.answered(Setting(1, 1), 1, float(at))
    assert tuner.setting == Setting(16, 2)
