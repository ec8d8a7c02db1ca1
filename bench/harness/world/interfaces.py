"""By which network interface the ranks of several nodes talk, and what to say when they cannot meet.

gloo takes the interfaces of GLOO_SOCKET_IFNAME by name, else the address that the host's own name stands for (torch,
ProcessGroupGloo); NCCL those whose names begin as NCCL_SOCKET_IFNAME says (`=` exactly, `^` all but these), and the
adapters of NCCL_IB_HCA likewise (NVIDIA, NCCL environment variables). A name that stands for the loopback is the
usual reason why ranks of one node meet and those of two do not.
"""

import fcntl
import json
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from torch.distributed.distributed_c10d import Store

from tp.errors import ConfigError

GLOO: Final = "GLOO_SOCKET_IFNAME"
NCCL: Final = "NCCL_SOCKET_IFNAME"
ADAPTERS: Final = "NCCL_IB_HCA"
INFINIBAND: Final = Path("/sys/class/infiniband")
# How long a store is asked.
ANSWER_S: Final = 5.0
# Of linux/sockios.h.
_SIOCGIFADDR: Final = 0x8915
_LOOPBACK: Final = "127."


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Where a rank waits for the others."""

    node: str
    address: str
    """IPv4; empty where it is not known."""
    chosen_by: str
    """Why this one."""


def interfaces() -> dict[str, str]:
    """IPv4 addresses of the interfaces of this host that have one, by name."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has none
                answer = fcntl.ioctl(asking, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found[name] = socket.inet_ntoa(answer[20:24])
    return found


def require_interfaces(environ: Mapping[str, str], *, several_nodes: bool, over_nccl: bool) -> None:
    """ConfigError for a variable that names an interface that is not here, or for none where one is needed."""
    here = interfaces()
    if GLOO in environ:
        for name in environ[GLOO].split(","):
            if name not in here:
                raise ConfigError(f"{GLOO}={environ[GLOO]}: {_missing(name, here)}; {_choice(here)}")
    elif several_nodes and (problem := _hostname_problem()):
        best = _towards_master(environ, here)
        raise ConfigError(f"{GLOO}: is not set, and {problem}; {_choice(here, best)} on every node")
    if over_nccl and several_nodes:
        _require_match(environ, NCCL, list(here), "interface", _choice(here))
        if environ.get("NCCL_IB_DISABLE") == "1":
            return
        adapters = sorted(path.name for path in INFINIBAND.iterdir()) if INFINIBAND.is_dir() else []
        _require_match(environ, ADAPTERS, adapters, "adapter", "set it to one of them, or NCCL_IB_DISABLE=1")


def own_offer(node: str, environ: Mapping[str, str]) -> Offer:
    """What gloo on this host will offer to the other ranks."""
    here = interfaces()
    if GLOO in environ:
        name = environ[GLOO].split(",")[0]
        return Offer(node=node, address=here.get(name, ""), chosen_by=f"{GLOO}={environ[GLOO]}")
    with suppress(OSError):
        return Offer(node=node, address=socket.gethostbyname(socket.gethostname()), chosen_by="its host's name")
    return Offer(node=node, address="", chosen_by="its host's name, which stands for nothing")


def publish(store: Store, rank: int, offer: Offer) -> None:
    """Tell the other ranks, by the store that they meet at."""
    store.set(f"offer/{rank}", json.dumps(asdict(offer)))


def offers(store: Store, world: int) -> str:
    """Which rank waits where, as far as they have told, in words; equal ones of a node once."""
    found: dict[Offer, int] = {}

    def ask() -> None:
        with suppress(RuntimeError):  # the store is gone
            for rank in range(world):
                if store.check([f"offer/{rank}"]):
                    found.setdefault(Offer(**json.loads(store.get(f"offer/{rank}"))), rank)

    # Cut off it never answers.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWER_S)
    told = [f"rank {rank} on {each.node} waits at {each.address or 'no address'} ({each.chosen_by})"
            for each, rank in dict(found).items()]  # fmt: skip
    return ", ".join(told) or "no rank has told where it waits"


def _hostname_problem() -> str:
    """Why the address that this host's name stands for is none that other nodes reach; empty where it may be."""
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError:
        return f"the host's name {name} stands for no address"
    return f"the host's name {name} stands for {address}, itself alone" if address.startswith(_LOOPBACK) else ""


def _towards_master(environ: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    """The interface by which this host reaches MASTER_ADDR."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((environ.get("MASTER_ADDR", ""), 9))  # sends nothing, but chooses a way
        address = asking.getsockname()[0]
        return next((name for name, own in here.items() if own == address), None)
    return None


def _missing(name: str, here: Mapping[str, str]) -> str:
    names = [known for _, known in socket.if_nameindex()]
    return f"{name or 'an empty name'} has no IPv4 address" if name in names else f"no interface {name!r} is here"


def _choice(here: Mapping[str, str], best: str | None = None) -> str:
    named = [f"{name} {address}" for name, address in here.items() if not address.startswith(_LOOPBACK)]
    if best is not None:
        return f"export {GLOO}={best}, which reaches MASTER_ADDR,"
    return f"use one of {', '.join(named)}" if named else "give an interface an address"


def _require_match(environ: Mapping[str, str], variable: str, here: Sequence[str], what: str, remedy: str) -> None:
    """NCCL would find nothing to send over where no name begins as the variable says."""
    text = environ.get(variable, "")
    if not text or text.startswith("^"):
        return
    exact = text.startswith("=")
    wanted = [word.split(":")[0] for word in text.removeprefix("=").split(",")]
    if not any(name == word if exact else name.startswith(word) for name in here for word in wanted):
        known = ", ".join(here) or "none"
        raise ConfigError(f"{variable}={text}: no {what} of that name here, which has {known}; {remedy}")
