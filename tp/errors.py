"""The errors a user can cause; each message names the place, the value and the remedy in one line.

TpbenchError
  ConfigError         a file, key or flag is wrong
    PlanError         a case cannot be split as asked
  MeasurementError    a run could not measure what it set out to
"""

from tp.units import printable


class TpbenchError(Exception):
    """A failure that is shown to the user as one line, without a traceback."""

    def __str__(self) -> str:
        """The message; what it quotes of a file or a flag cannot steer the terminal."""
        return printable(super().__str__())


class ConfigError(TpbenchError):
    """A file, key or flag holds something that cannot be used; exit code 2."""


class PlanError(ConfigError):
    """A model, degree or workload that cannot be split as asked; exit code 2."""


class MeasurementError(TpbenchError):
    """A run or a check failed; exit code 1."""
