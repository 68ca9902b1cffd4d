"""Where stderr is not a terminal, progress is a line every 30 seconds."""

import pytest

from classify_client.terminal.progress import Lines, progress_bar


def test_a_line_is_printed_every_30_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = [0.0]
    with Lines(lambda: seconds[0]) as progress:
        task = progress.add_task("Classifying", total=None)
        for second, images in ((10, 100), (31, 310), (40, 400), (62, 620)):
            seconds[0] = second
            progress.update(task, completed=images)
    assert capsys.readouterr().err.splitlines() == [
        "Classifying: 310 images, 10 images/s",
        "Classifying: 620 images, 10 images/s",
    ]


def test_quiet_prints_no_lines() -> None:
    assert not isinstance(progress_bar(quiet=True), Lines)
    assert isinstance(progress_bar(quiet=False), Lines)
