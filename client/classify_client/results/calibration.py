"""How well the probabilities of a run agree with how often it is right."""

from dataclasses import dataclass
from typing import Final

BINS: Final = 10


@dataclass(frozen=True)
class Bin:
    """Answers of similar probability.

    Attributes:
        low, high: range of the probabilities, 0-1.
        count: number of answers.
        confidence: their mean probability, 0-1.
        accuracy: share of right answers, 0-1.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


class Reliability:
    """Answers sorted by the probability of their class into ten equal bins.

    The reliability diagram of DeGroot and Fienberg (1983), as in Guo et al. (2017).
    """

    def __init__(self) -> None:
        self._counts = [0] * BINS
        self._confidence = [0.0] * BINS
        self._right = [0] * BINS

    def add(self, probability: float, is_right: bool) -> None:
        """Add an answer of this probability, 0-1."""
        place = min(int(probability * BINS), BINS - 1)
        self._counts[place] += 1
        self._confidence[place] += probability
        self._right[place] += is_right

    def merge(self, other: "Reliability") -> None:
        """Add the answers of another one."""
        for place in range(BINS):
            self._counts[place] += other._counts[place]
            self._confidence[place] += other._confidence[place]
            self._right[place] += other._right[place]

    @property
    def bins(self) -> list[Bin]:
        """The bins that are not empty, in order of probability."""
        return [
            Bin(index / BINS, (index + 1) / BINS, count, self._confidence[index] / count, self._right[index] / count)
            for index, count in enumerate(self._counts)
            if count
        ]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error (ECE; Naeini et al. 2015), 0-1: mean distance of probability and accuracy."""
        distance = sum(each.count * abs(each.confidence - each.accuracy) for each in self.bins)
        return distance / max(1, sum(self._counts))
