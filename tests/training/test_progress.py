"""Where stderr is not a terminal, no 30 seconds of a training pass without a line."""

from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner

from classify_training.cli.main import main
from classify_training.model.classifier import build_classifier
from classify_training.progress import LINE_TIMER, Lines, LineTimer, add_images, progress_bar


class Clock:
    """Gives `seconds`, which tests set."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timer(clock: Clock) -> LineTimer:
    return LineTimer(clock)


def lines_after(seconds: list[float], lines: Lines, clock: Clock, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is printed if the clock is looked at at these times."""
    for clock.seconds in seconds:
        lines.print_if_due()
    return capsys.readouterr().err.splitlines()


def test_a_line_is_due_30_seconds_after_the_last_one(
    clock: Clock, timer: LineTimer, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Lines(timer)
    task = add_images(lines, "Reading images", 24_000)
    lines.advance(task, 6000)
    assert lines_after([10, 29, 31, 50], lines, clock, capsys) == ["Reading images: 6,000 of 24,000 images, 2 min left"]
    # The line of an epoch, or of another stage.
    timer.restart()
    lines.advance(task, 6000)
    expected = ["Reading images: 12,000 of 24,000 images, 80 s left"]
    assert lines_after([70, 79, 80], lines, clock, capsys) == expected


def test_a_stage_without_a_known_end_prints_how_long_it_has_been_running(
    clock: Clock, timer: LineTimer, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Lines(timer)
    lines.add_task("Looking for near-duplicates", total=None)
    expected = ["Looking for near-duplicates: 35 s so far", "Looking for near-duplicates: 2 min so far"]
    assert lines_after([35, 120], lines, clock, capsys) == expected


def test_stages_shorter_than_30_seconds_do_not_add_up_to_silence(
    clock: Clock, timer: LineTimer, capsys: pytest.CaptureFixture[str]
) -> None:
    Lines(timer).add_task("first", total=None)
    clock.seconds = 20
    second = Lines(timer)
    second.add_task("second", total=None)
    assert lines_after([29, 30], second, clock, capsys) == ["second: 10 s so far"]


def test_a_line_is_printed_while_a_stage_is_busy_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = Event()
    monkeypatch.setattr("click.echo", lambda message, err: printed.set())
    with Lines(LineTimer(interval=0.01)) as lines:
        lines.add_task("busy", total=None)
        printed.clear()
        assert printed.wait(60)


def test_quiet_prints_no_lines() -> None:
    assert not isinstance(progress_bar(quiet=True), Lines)
    assert isinstance(progress_bar(quiet=False), Lines)


def test_every_stage_of_a_training_has_lines(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LINE_TIMER, "interval", 0.0)
    weights = tmp_path / "vgg16.weights.h5"
    build_classifier(2, 32, "random").backbone.save_weights(weights)
    command = ["train", str(dataset), "--output", str(tmp_path / "m"), "--runs", str(tmp_path / "runs")]
    command += ["--image-size", "32", "--weights", str(weights), "--head-epochs", "1", "--epochs", "2"]
    command += ["--unfreeze", "block5"]
    command += ["--min-images", "4", "--batch-size", "8", "--val", "0.2", "--test", "0.2"]
    result = CliRunner().invoke(main, [*command, "--cache", str(tmp_path / "cache")])
    assert result.exit_code == 0, result.output
    stages = {line.partition(":")[0] for line in result.stderr.splitlines()}
    assert stages >= {
        "Reading images",
        "Looking for near-duplicates among 26 images",
        "Loading the weights",
        "Caching features of frozen layers",
        "head, epoch 1",
        "from block5, epoch 1",
        "Evaluating",
        "Embedding training images",
        "Exporting and verifying the model",
    }
    assert "from block5, epoch 2: 0 of 16 images" in result.stderr
