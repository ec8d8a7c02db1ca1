"""What a laboratory was asked to be: flags as text, and what they mean."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tp.errors import ConfigError
from tp.flags import comma_list, parse_flags, positive_float, positive_int

PROG: Final = "scripts/netlab"
# As many as a /24 has addresses for, some left free.
MAX_HOSTS: Final = 250
# An IPv4 host takes packets of 576 bytes; a veth has no longer ones than 65535.
MTUS: Final = range(576, 65536)
# tc's units; a bps is a byte a second.
UNITS: Final = {
    f"{prefix}{unit}": factor * bits
    for prefix, factor in (
        *(("", 1), ("k", 10**3), ("m", 10**6), ("g", 10**9), ("t", 10**12)),
        *(("ki", 2**10), ("mi", 2**20), ("gi", 2**30), ("ti", 2**40)),
    )
    for unit, bits in (("bit", 1), ("bps", 8))
}
# Below, the queue's numbers for one packet overflow; above, no CPU sends.
RATES_BITS_PER_S: Final = (8e3, 1e12)

_RATE: Final = re.compile(r"(\d+(?:\.\d+)?(?:e\d{1,2})?)([a-z]+)")
_DELAY: Final = re.compile(r"\d+(\.\d+)?(us|ms|s)")
_SECONDS: Final = r"(\d{1,6}(?:\.\d+)?)"
_DOWN: Final = re.compile(rf"(\d{{1,3}}):{_SECONDS}(?::{_SECONDS})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Every value is text here; `resolve` gives it meaning, and one line when it has none."""

    hosts: str = "2"
    """How many hosts: host0, host1, ..."""
    rate: str = ""
    """What each host may send, in tc's units: 100mbit, 2.5gbit, 1e9bit (default: unshaped)."""
    delay: str = ""
    """How long each packet travels one way, 1ms; the kernel must have netem (default: as long as it takes)."""
    mtu: str = "9000"
    """Bytes of the largest packet; of the shaped rate, headers take 1 % at 9000 and 5 % at 1500."""
    down: str = ""
    """HOST:SECONDS[:SECONDS], a control: takes host's link down so long after the start, back up after so long."""
    grace: str = "40"
    """Seconds that the other hosts have to end by themselves after one has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What a host may send."""

    text: str
    """As given, in lower case."""
    bits_per_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Switching:
    """A change of one host's link, planned."""

    after_s: float
    """Since the commands were started."""
    host: int
    state: str
    """`down` or `up`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A laboratory, and what runs in it."""

    num_hosts: int
    rate: Rate | None
    delay: str | None
    """As tc takes it."""
    mtu: int
    switchings: tuple[Switching, ...]
    """In the order of time."""
    grace_s: float
    command: tuple[str, ...]


def resolve(args: Sequence[str]) -> Lab:
    """The laboratory that the words of the command line ask for; ConfigError when they make no sense."""
    end = list(args).index("--") if "--" in args else len(args)
    flags = parse_flags(Flags, args[:end], prog=PROG, description="Runs what follows -- on each of several hosts.")
    command = tuple(args[end + 1 :])
    if not command:
        raise ConfigError(f"{PROG}: no command to run on the hosts; put it behind --: {PROG} --hosts 2 -- hostname")
    num_hosts = positive_int(flags.hosts, flag="--hosts")
    if num_hosts > MAX_HOSTS:
        raise ConfigError(f"--hosts {num_hosts}: more than one network has addresses for; give at most {MAX_HOSTS}")
    mtu = positive_int(flags.mtu, flag="--mtu")
    if mtu not in MTUS:
        raise ConfigError(f"--mtu {mtu}: out of range; give one from {MTUS[0]} to {MTUS[-1]}")
    if flags.delay and not _DELAY.fullmatch(flags.delay):
        raise ConfigError(f"--delay {flags.delay}: not a time; give one such as 1ms, 0.5ms or 200us")
    return Lab(
        num_hosts=num_hosts,
        rate=parse_rate(flags.rate) if flags.rate else None,
        delay=flags.delay or None,
        mtu=mtu,
        switchings=_switchings(flags.down, num_hosts) if flags.down else (),
        grace_s=positive_float(flags.grace, flag="--grace"),
        command=command,
    )


def parse_rate(given: str) -> Rate:
    """A rate as --rate takes it; ConfigError when it is none, or one that no bucket can have."""
    text = given.lower()
    found = _RATE.fullmatch(text)
    if not found or found[2] not in UNITS:
        raise ConfigError(f"--rate {given[:40]}: not a rate; give a number and its unit, such as 100mbit or 2.5gbit")
    bits_per_s = float(found[1]) * UNITS[found[2]]
    low, high = RATES_BITS_PER_S
    if not low <= bits_per_s <= high:
        raise ConfigError(f"--rate {given[:40]}: out of range; give one from {low / 1e3:g}kbit to {high / 1e12:g}tbit")
    return Rate(text=text, bits_per_s=round(bits_per_s))


def _switchings(text: str, num_hosts: int) -> tuple[Switching, ...]:
    planned: list[Switching] = []
    for word in comma_list(text, str, flag="--down"):
        found = _DOWN.fullmatch(word)
        if not found:
            raise ConfigError(f"--down {word}: not HOST:SECONDS or HOST:SECONDS:SECONDS; write --down 1:3 or 1:3:0.5")
        host, after_s = int(found[1]), float(found[2])
        if host >= num_hosts:
            raise ConfigError(f"--down {word}: there is no host {host}; give one from 0 to {num_hosts - 1}")
        planned.append(Switching(after_s=after_s, host=host, state="down"))
        if found[3]:
            planned.append(Switching(after_s=after_s + float(found[3]), host=host, state="up"))
    return tuple(sorted(planned, key=lambda switching: switching.after_s))
