"""What the verbs share: the console, and inputs that must be given."""

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import tyro
from rich.console import Console

from tp.errors import ConfigError
from tp.units import printable

Inputs = Annotated[tuple[str, ...], tyro.conf.Positional]

# Wide enough for every table in a pipe, where no terminal says how wide it is.
PLAIN_WIDTH: Final = 140


def make_console(*, plain_width: int = PLAIN_WIDTH, least_width: int = 0) -> Console:
    """Standard output; plain text on lines of their own when it is not a terminal.

    Under `least_width` columns tables would lose some of theirs: there the terminal wraps the lines instead.
    """
    console = _Console(highlight=False)
    if not console.is_terminal:
        return _Console(highlight=False, width=plain_width)
    return console if console.width >= least_width else _Console(highlight=False, width=least_width)


class _Console(Console):
    """A console that leaves it to the program what a closed pipe means; to rich it is a failure."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def note(problem: str) -> None:
    """Tell on standard error what is wrong with a file that was read all the same."""
    print(f"note: {printable(problem)}", file=sys.stderr)


@contextmanager
def writing(flag: str, path: Path) -> Iterator[None]:
    """ConfigError where the file that `flag` names cannot be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"{flag} {path}: cannot be written ({reason}); name another file") from error


def write_csv(rows: Iterable[Mapping[str, Any]], path: Path, *, flag: str, names: Sequence[str] | None = None) -> None:
    """Rows as CSV, by default with every column that one of them has; what is unknown is empty."""
    made = list(rows)
    columns = list(dict.fromkeys(name for row in made for name in row)) if names is None else names
    with writing(flag, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(made)


def require(value: str, flag: str, what: str) -> None:
    """ConfigError unless `flag` was given."""
    if not value:
        raise ConfigError(f"{flag}: is missing; give {what}")
