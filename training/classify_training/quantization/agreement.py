"""How well a version with 8-bit integers agrees with the float32 version that it was made of."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MOST_CHANGED: Final = 0.02
SURE: Final = 0.7
MOST_ACCURACY_LOST: Final = 0.01


@dataclass(frozen=True)
class Agreement:
    """Answers of both versions to N images.

    Attributes:
        before: float32 [N,C], probabilities of the float32 version.
        after: the same of the int8 version.
        targets: int64 [N], the class that the label stands for; -1 if there is none.
    """

    before: NDArray[np.float32]
    after: NDArray[np.float32]
    targets: NDArray[np.int64]

    @property
    def changed(self) -> int:
        """How many images get another class."""
        return int(self._is_changed.sum())

    @property
    def changed_while_sure(self) -> int:
        """How many of these the float32 version was sure of."""
        return int((self._is_changed & (self.before.max(axis=1) >= SURE)).sum())

    @property
    def correct(self) -> tuple[int, int]:
        """How many answers of the float32 version and of the int8 version are right."""
        before, after = (int((answers.argmax(axis=1) == self.targets).sum()) for answers in (self.before, self.after))
        return before, after

    @property
    def accuracies(self) -> tuple[float, float]:
        """Accuracy of both versions, 0-1, on the images with a known class; 0 without any."""
        before, after = (count / max(1, self._known) for count in self.correct)
        return before, after

    @property
    def _known(self) -> int:
        return int((self.targets >= 0).sum())

    @property
    def _is_changed(self) -> NDArray[np.bool_]:
        changed: NDArray[np.bool_] = self.before.argmax(axis=1) != self.after.argmax(axis=1)
        return changed

    def problem(self) -> str:
        """Why the int8 version must not be used; empty if it may be.

        At most 2% of the answers may change, none that the float32 version was at least 70% sure of, and at most one
        point of accuracy may be lost.
        """
        if not np.isfinite(self.after).all():
            return "some of its answers are no numbers"
        if self.changed_while_sure:
            return (
                f"{self.changed_while_sure} of {len(self.before)} answers of which the float32 model was at least"
                f" {SURE:.0%} sure differ"
            )
        if self.changed > MOST_CHANGED * len(self.before):
            return f"{self.changed} of {len(self.before)} answers differ, more than {MOST_CHANGED:.0%}"
        before, after = self.correct
        if before - after > MOST_ACCURACY_LOST * self._known:
            return "its accuracy is {1:.1%} instead of {0:.1%}".format(*self.accuracies)
        return ""
