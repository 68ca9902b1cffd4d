"""A signal ends the work where it can stop, and a second one at once."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import write_picture

CODE = """
import signal, sys
from classify_training import interrupts
from classify_training.progress import track

interrupts.install()
done = []
def work(item):
    done.append(item)
    if item in signals:
        signal.raise_signal(signal.SIGTERM)
    done.append(item)
try:
    with interrupts.deferred():
        for item in track(range(9), 9, "work", quiet=True):
            work(item)
except KeyboardInterrupt as error:
    print(type(error).__name__, len(done))
"""


@pytest.mark.parametrize(("signals", "said"), [
    ("[9]", ""),
    ("[2]", "Interrupted 6"),
])  # fmt: skip
def test_the_first_signal_takes_effect_between_two_steps(signals: str, said: str) -> None:
    assert outcome(f"signals = {signals}" + CODE) == said


def test_a_second_signal_takes_effect_at_once() -> None:
    twice = CODE.replace("signal.raise_signal(signal.SIGTERM)", "[signal.raise_signal(signal.SIGTERM) for _ in '12']")
    assert outcome("signals = [2]" + twice) == "KeyboardInterrupt 5"


def outcome(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_does_not_train_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    for label in ("cat", "dog"):
        write_picture(tmp_path / f"data/{label}/1.png", 1)
    code = (
        "import os, signal; from classify_training.cli.main import main; from classify_training.data import plan;"
        f"plan.load = lambda *rest: os.kill(os.getpid(), {int(number)}); main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "inspect", str(tmp_path / "data")], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (130, "Interrupted.\n")


def test_a_signal_after_the_work_is_done_changes_nothing() -> None:
    """Python removes its own handlers while it ends, which takes a while with TensorFlow."""
    code = (
        "import os, signal; from classify_training import interrupts; interrupts.install(); interrupts.ignore();"
        "assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGINT) == signal.SIG_IGN;"
        "os.kill(os.getpid(), signal.SIGTERM); print('done')"
    )
    assert outcome(code) == "done"
