"""What a host's command is told: its place among the hosts as torchrun reads it, and the link that it stands on."""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from flags import Lab
from network import INTERFACE, Host, burst_bytes

# Each laboratory has its own network, so the port is always free.
PORT: Final = 29400
USUAL_MTU: Final = 9000


def environment(host: Host, hosts: Sequence[Host], link: Path | None) -> dict[str, str]:
    """The variables of the command on `host`; what the caller chose of interfaces and threads stays."""
    chosen = {name: value for name, value in os.environ.items() if name != "TPBENCH_NETWORK"}
    defaults = {"GLOO_SOCKET_IFNAME": INTERFACE, "NCCL_SOCKET_IFNAME": INTERFACE, "OMP_NUM_THREADS": "1"}
    place = {
        "PET_NNODES": str(len(hosts)),
        "PET_NODE_RANK": str(host.index),
        "PET_MASTER_ADDR": hosts[0].address,
        "PET_MASTER_PORT": str(PORT),
    }
    return defaults | chosen | place | ({"TPBENCH_NETWORK": str(link)} if link else {})


def _other_than_usual(lab: Lab) -> Iterator[str]:
    if lab.delay:
        yield f"{lab.delay}-delay"
    if lab.mtu != USUAL_MTU:
        yield f"mtu{lab.mtu}"


@contextmanager
def described_link(lab: Lab) -> Iterator[Path | None]:
    """The file that describes the shaped link as configs/networks does, while the context lasts; None if unshaped."""
    if lab.rate is None:
        yield None
        return
    source = (
        f"scripts/netlab: a token bucket (tc tbf, {lab.rate.text}) on the egress of a network namespace; Ethernet, "
        f"IP and TCP headers and acknowledgements count, at an MTU of {lab.mtu}"
        + (f"; each packet travels {lab.delay} longer" if lab.delay else "")
    )
    lines = {
        # Links that differ in more than their rate are not one network.
        "name": "-".join(["netlab", lab.rate.text, *_other_than_usual(lab)]),
        "kind": "ethernet",
        "bytes_per_s": lab.rate.bits_per_s / 8,
        "direction": "one-way",
        "ports_per_node": 1,
        "burst_bytes": burst_bytes(lab.rate, lab.mtu),
        "source": source,
    }
    with tempfile.TemporaryDirectory(prefix="netlab-") as folder:
        path = Path(folder) / f"{lines['name']}.toml"
        # JSON writes these texts and numbers as TOML does.
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items()), encoding="utf-8")
        yield path
