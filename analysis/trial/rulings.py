"""All that is claimed of the machines of some records, judged: the article's claims, the vendors', the planted."""

from collections.abc import Iterator, Sequence

from analysis.load import Run
from analysis.trial.vendor import network_ledger, planted_ledger, vendor_ledger
from analysis.trial.verdicts import Ruling, judge
from tp.claim import Ledger, load_ledger
from tp.errors import ConfigError
from tp.hardware import Link, Node


def rulings_of(
    runs: Sequence[Run], *, nodes: Sequence[Node] = (), networks: Sequence[Link] = (), files: Sequence[str] = ()
) -> list[Ruling]:
    """The ruling on each claim of the article, of `files`, and of the vendors of the records' machines and `nodes`.

    Then on the planted ones. ConfigError for a formula or a reference that means nothing, with the file's name.
    """
    rulings = judge(load_ledger("article"), runs)
    rulings += [ruling for path in files for ruling in _judge_file(path, runs)]
    return rulings + [ruling for ledger in _ledgers(runs, nodes, networks) for ruling in judge(ledger, runs)]


def _judge_file(path: str, runs: Sequence[Run]) -> list[Ruling]:
    """The rulings on the user's own claims; ConfigError names their file."""
    ledger = load_ledger(path)
    try:
        return judge(ledger, runs)
    except ConfigError as error:
        raise ConfigError(f"--claims {path}: {error}") from error


def _ledgers(runs: Sequence[Run], nodes: Sequence[Node], networks: Sequence[Link]) -> Iterator[Ledger]:
    """The machines of the records as their headers describe them, then those that are asked for."""
    measured = {run.headers[0].hardware.name: run.headers[0].hardware for run in runs}
    yield from map(vendor_ledger, measured.values())
    yield from (vendor_ledger(node) for node in nodes if node.name not in measured)
    yield from map(network_ledger, networks)
    yield from map(planted_ledger, measured.values())
