"""Signals to the laboratory: noted when they come, passed on when it suits."""

import signal
from types import FrameType, TracebackType
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Within its context SIGINT, SIGTERM and SIGHUP end nothing by themselves; those ignored before stay ignored."""

    def __init__(self) -> None:
        self.first: int | None = None
        self._waiting: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def take(self) -> list[int]:
        """What came since the last call."""
        taken, self._waiting = self._waiting, []
        return taken

    @property
    def exit_code(self) -> int:
        """As a shell reports what the first signal ended; 0 when none came."""
        return 0 if self.first is None else 128 + self.first

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.first = self.first or number
        self._waiting.append(number)
