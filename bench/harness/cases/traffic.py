"""Bytes on the wire: what counters outside of this program saw while passes ran, beside what the plan says.

On a host, every network device's own counter (loopback carries gloo between ranks of one host); on GPUs the NVLinks'
data counters. What else the host sends in that time is counted too, and so are headers and acknowledgements.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.harness.machine.probe import Probe
from bench.harness.record.interference import sent_over_planned
from bench.harness.record.records import HostTraffic, Traffic
from bench.harness.world.ranks import Ranks

# A block of passes long enough that a barrier's and other processes' few kilobytes do not count.
ENOUGH_BYTES: Final = 16_000_000
MAX_PASSES: Final = 16
# What others send only adds: of several blocks the one with the least is the passes' own.
BLOCKS: Final = 3
# Of packets of 9000 bytes headers and acknowledgements are 1.1 %.
HEADERS: Final = 0.02
NVLINK: Final = "nvlink"

_DEVICES: Final = Path("/sys/class/net")


def count_traffic(run: Callable[[], None], planned_bytes: int, *, ranks: Ranks, probe: Probe) -> Traffic:
    """Run enough passes and read the counters around them; every rank calls it and gets the same.

    `planned_bytes`: what one rank sends in one pass.
    """
    passes = max(1, min(MAX_PASSES, ENOUGH_BYTES // max(planned_bytes, 1)))
    found: list[Traffic] = []
    while len(found) < BLOCKS and not any(_nothing_but_planned(each) for each in found):
        hosts = _by_host(ranks.gather_objects(_count(run, passes, ranks, probe)), ranks)
        found.append(Traffic(passes=passes, planned_bytes=planned_bytes, hosts=hosts))
    return min(found, key=lambda each: sum(sum(host.sent_bytes.values()) for host in each.hosts))


def _nothing_but_planned(traffic: Traffic) -> bool:
    """Whether so little was seen besides the plan's bytes that it may be headers."""
    ratio = sent_over_planned(traffic)
    return ratio is not None and ratio < 1 + HEADERS


def _count(run: Callable[[], None], passes: int, ranks: Ranks, probe: Probe) -> tuple[dict[str, int], dict[str, str]]:
    """What this rank's counters saw of a block of passes, and why others saw nothing."""
    ranks.barrier()
    before, unread = _counters(probe)
    ranks.barrier()
    for _ in range(passes):
        run()
    ranks.barrier()
    after, _ = _counters(probe)
    moved = {name: after[name] - before[name] for name in before if name in after and after[name] > before[name]}
    return moved, unread


def _by_host(everyone: list[tuple[dict[str, int], dict[str, str]]], ranks: Ranks) -> tuple[HostTraffic, ...]:
    """The network devices' counters are the host's, so its first rank's count; NVLinks are every rank's own."""
    hosts: dict[str, list[int]] = {}
    for rank, place in enumerate(ranks.places):
        hosts.setdefault(place.host, []).append(rank)
    traffic = []
    for here in hosts.values():
        sent, unread = everyone[here[0]]
        links = [everyone[rank][0][NVLINK] for rank in here if NVLINK in everyone[rank][0]]
        joined = sent | ({NVLINK: sum(links)} if links else {})
        node = ranks.places[here[0]].node
        traffic.append(HostTraffic(host=node, num_ranks=len(here), sent_bytes=joined, unread=unread))
    return tuple(traffic)


def _counters(probe: Probe) -> tuple[dict[str, int], dict[str, str]]:
    """Bytes sent so far by device, and why others cannot be read."""
    counters, unread = {}, {}
    if not _DEVICES.is_dir():
        unread["network"] = f"{_DEVICES}: not there"
    for device in sorted(_DEVICES.iterdir()) if _DEVICES.is_dir() else ():
        try:
            counters[device.name] = int((device / "statistics" / "tx_bytes").read_text())
        except (OSError, ValueError) as error:
            unread[device.name] = str(error)
    reading = probe.read()
    if "nvlink_sent_bytes" in reading.values:
        counters[NVLINK] = int(reading.values["nvlink_sent_bytes"])
    elif "nvlink_sent_bytes" in reading.unread:
        unread[NVLINK] = reading.unread["nvlink_sent_bytes"]
    return counters, unread
