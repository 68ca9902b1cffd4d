"""Find the batch size and the number of requests in flight at which the server is fastest, during the run itself.

Hill climbing over powers of two: each setting is measured long enough, then its neighbour is tried and kept if it is
clearly faster; first the batch size, then the requests in flight. Where decoding is the bottleneck no setting is
faster, so nothing changes. No clock and no network: the caller passes the times at which requests were answered.
"""

from dataclasses import dataclass
from typing import Final

_BATCH_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_FIRST_BATCH: Final = 16
_FIRST_IN_FLIGHT: Final = 2
MAX_IN_FLIGHT: Final = 32
_BATCH_BYTES: Final = 16 << 20
_IN_FLIGHT_BYTES: Final = 128 << 20
_MIN_SPEEDUP: Final = 1.05
_MIN_BATCHES: Final = 4
_MIN_SECONDS: Final = 1.0
_MAX_RETREATS: Final = 3


@dataclass(frozen=True)
class Setting:
    """Images per request, and the number of requests in flight (sent and not yet answered)."""

    batch_size: int
    in_flight: int


class _Climb:
    """Hill climbing along ascending values: upwards while the rate improves, else downwards from the start."""

    def __init__(self, values: list[int], first: int) -> None:
        self._values = values
        self._best = self._at = values.index(first)
        self._rate = 0.0
        self._directions = [1, -1]

    @property
    def value(self) -> int:
        return self._values[self._at]

    @property
    def settled(self) -> bool:
        return not self._directions

    def observe(self, rate: float) -> None:
        """Record the rate at `value`, and move to another value or settle."""
        if rate > self._rate * _MIN_SPEEDUP:
            if self._rate:
                # The rate improves in this direction: the other one need not be tried.
                del self._directions[1:]
            self._best, self._rate = self._at, rate
        else:
            del self._directions[0]
        while self._directions and self._best + self._directions[0] not in range(len(self._values)):
            del self._directions[0]
        self._at = self._best + self._directions[0] if self._directions else self._best

    def at_most(self, limit: int) -> None:
        """Drop the values above a limit, but keep at least one; settle there if the current value was dropped."""
        self._values = [value for value in self._values if value <= limit] or self._values[:1]
        if max(self._at, self._best) >= len(self._values):
            self._at = self._best = len(self._values) - 1
            self._directions = []

    def step_down(self) -> None:
        """Go one value down, and search upwards again from there."""
        self._at = self._best = max(0, self._at - 1)
        self._rate, self._directions = 0.0, [1]


class _Fixed(_Climb):
    """A value that the user chose; it never changes."""

    def __init__(self, value: int) -> None:
        super().__init__([value], value)
        self._directions = []

    def step_down(self) -> None:
        pass


class Tuner:
    """Chooses batch size and requests in flight.

    Args:
        batch_size: images per request; None to find the fastest.
        in_flight: requests in flight; None to find the fastest.
        servers: number of servers; each gets requests from the start.
        image_bytes: size of one decoded image, which limits the settings that are tried.
    """

    def __init__(self, batch_size: int | None, in_flight: int | None, servers: int, image_bytes: int) -> None:
        sizes = [size for size in _BATCH_SIZES if size == 1 or size * image_bytes <= _BATCH_BYTES]
        first = min(_FIRST_IN_FLIGHT * servers, MAX_IN_FLIGHT)
        powers = sorted({first, *(1 << power for power in range(MAX_IN_FLIGHT.bit_length()))})
        self._batch = _Fixed(batch_size) if batch_size else _Climb(sizes, min(_FIRST_BATCH, sizes[-1]))
        self._flight = _Fixed(in_flight) if in_flight else _Climb(powers, first)
        self._image_bytes = image_bytes
        self._since: float | None = None
        self._images = self._batches = self._slow_downs = 0

    @property
    def setting(self) -> Setting:
        """The setting to use now."""
        return Setting(self._batch.value, self._flight.value)

    @property
    def settled(self) -> bool:
        """Whether the search is over; the setting changes only if the server asks for less."""
        return self._batch.settled and self._flight.settled

    def answered(self, sent_as: Setting, images: int, at: float) -> None:
        """Record that a request of `images`, sent under a setting, was answered at a time in seconds."""
        if self.settled or sent_as != self.setting or not images:
            return
        if self._since is None:
            # The first answers still compete with requests of the setting before.
            self._since = at
            return
        self._images += images
        self._batches += 1
        seconds = at - self._since
        if self._batches < max(_MIN_BATCHES, 2 * sent_as.in_flight) or seconds < _MIN_SECONDS:
            return
        climb = self._flight if self._batch.settled else self._batch
        climb.observe(self._images / seconds)
        self._flight.at_most(_IN_FLIGHT_BYTES // (self._batch.value * self._image_bytes))
        self._restart_measurement()

    def slow_down(self) -> None:
        """Send fewer requests at once because the server refused some; after the third time for good."""
        self._slow_downs += 1
        if self._slow_downs < _MAX_RETREATS:
            self._flight.step_down()
        else:
            self._flight.at_most(self._flight.value // 2)
        self._restart_measurement()

    def batch_at_most(self, images: int) -> None:
        """Record that the server refuses larger batches."""
        if images < self._batch.value:
            self._restart_measurement()
        self._batch.at_most(images)

    def _restart_measurement(self) -> None:
        self._since, self._images, self._batches = None, 0, 0
