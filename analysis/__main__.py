"""python -m analysis VERB ...: what records and tables mean."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword
from typing import Final

from tp.errors import ConfigError, TpbenchError
from tp.flags import choice

# Each is the function of its name in analysis/verbs/<name>.py (`import_`, as Python has taken the other), loaded when
# asked for: what fits and draws takes seconds to load, which a verb that does neither should not wait for.
VERBS: Final = ("report", "compare", "calibrate", "predict", "score", "split", "plan", "claims", "import", "export")


# As a shell reports a program that SIGPIPE ended.
CLOSED_PIPE: Final = 141


def main(args: Sequence[str]) -> int:
    """Run a verb; exit code 0, 1 for a failure, 2 for bad input, which is one line."""
    if not args or args[0] in ("-h", "--help"):
        print(f"usage: python -m analysis {{{','.join(VERBS)}}} ...  (each has --help)")
        return 0 if args else 2
    try:
        verb = choice(args[0], VERBS, flag="verb")
        name = f"{verb}_" if iskeyword(verb) else verb
        getattr(import_module(f"analysis.verbs.{name}"), name)(args[1:])
        sys.stdout.flush()
    except TpbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except BrokenPipeError:
        # Who read has seen enough, as `head` has. What is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
