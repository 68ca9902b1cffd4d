"""Start a command, end it at a random moment, and say what is wrong with what it leaves."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BIN: Final = Path(sys.executable).parent
LONGEST: Final = 300
"""Seconds after which a command counts as hanging."""


class Fault(Exception):
    """Something was lost, half-written or published twice."""


class Interrupted:
    """One execution of a command that was ended from outside.

    Attributes:
        returncode: exit code; negative: the number of the signal that ended the process.
        output: what it wrote to stdout and stderr.
        seconds: time from the signal to the end of the process; None if it ended before the signal.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, begins: Callable[[str], bool], delay: float, number: int
    ) -> None:
        """Start a command, and send a signal `delay` seconds after `begins` is true of its output so far."""
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines: list[str] = []
        reader = threading.Thread(target=self._read, args=(process, lines))
        reader.start()
        while not begins("".join(lines)) and process.poll() is None:
            time.sleep(0.002)
        self.seconds: float | None = None
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            start = time.monotonic()
            process.send_signal(number)
            process.wait(LONGEST)
            self.seconds = time.monotonic() - start
        reader.join()
        self.returncode = process.returncode
        self.output = "".join(lines)

    def _read(self, process: "subprocess.Popen[str]", lines: list[str]) -> None:
        for line in process.stdout or ():
            lines.append(line)


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Keep `loops` cores busy within the block."""
    processes = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Goal:
    """When an experiment ends: after a number of interruptions, or at a time of `time.monotonic`."""

    times: int
    deadline: float

    def is_reached(self, times: int) -> bool:
        """Whether the experiment ends after this many interruptions."""
        return times >= self.times or time.monotonic() >= self.deadline


def check(condition: bool, message: str) -> None:
    """Raise Fault with the message unless the condition is true."""
    if not condition:
        raise Fault(message)
