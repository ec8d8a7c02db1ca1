"""python -m analysis VERB ...: what records and tables mean."""

import sys
from collections.abc import Callable, Sequence
from typing import Final

from analysis.verbs.calibrate import calibrate
from analysis.verbs.predict import predict
from analysis.verbs.report import report
from analysis.verbs.score import score
from tp.errors import ConfigError, TpbenchError
from tp.flags import choice

VERBS: Final[dict[str, Callable[[Sequence[str]], None]]] = {
    "report": report,
    "calibrate": calibrate,
    "predict": predict,
    "score": score,
}


def main(args: Sequence[str]) -> int:
    """Run a verb; exit code 0, 1 for a failure, 2 for bad input, which is one line."""
    if not args or args[0] in ("-h", "--help"):
        print(f"usage: python -m analysis {{{','.join(VERBS)}}} ...  (each has --help)")
        return 0 if args else 2
    try:
        VERBS[choice(args[0], tuple(VERBS), flag="verb")](args[1:])
    except TpbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
