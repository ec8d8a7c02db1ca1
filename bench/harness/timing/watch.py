"""The machine's state on one rank while samples are taken: a reading a block."""

import time

from bench.harness.machine.probe import Probe
from bench.harness.machine.reading import Reading


class Watch:
    """Reads the state when told to, and notes after how many rounds that was."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self.facts = probe.facts()
        self._rounds = 0
        self.readings: list[tuple[int, float, Reading]] = []
        """Rounds done before it, seconds by this host's monotonic clock, and the state."""

    def read(self) -> None:
        self.readings.append((self._rounds + 1, time.perf_counter(), self._probe.read()))

    def end_round(self) -> None:
        self._rounds += 1

    def forget_warm_up(self) -> None:
        """The last reading of the warm-up is where the first block begins."""
        _, at_s, reading = self.readings[-1]
        self._rounds = 0
        self.readings = [(0, at_s, reading)]
