"""What reads the machine under a torch device."""

from collections.abc import Sequence
from typing import Protocol

import torch

from bench.harness.machine.host import Host
from bench.harness.machine.nvml import Gpu
from bench.harness.machine.reading import Facts, Reading, merge_facts, merge_readings


class Probe(Protocol):
    """Reads a machine; never raises for what it cannot read."""

    def facts(self) -> Facts: ...

    def read(self) -> Reading: ...


class Probes:
    """Several probes of one machine as one; their names differ. Facts do not change and are read once."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._probes = tuple(probes)
        self._facts: Facts | None = None

    def facts(self) -> Facts:
        if self._facts is None:
            self._facts = merge_facts(probe.facts() for probe in self._probes)
        return self._facts

    def read(self) -> Reading:
        return merge_readings(probe.read() for probe in self._probes)


def make_probe(device: torch.device) -> Probe:
    """The host, and on CUDA the GPU too, found by its UUID: CUDA's numbers are not NVML's."""
    gpus = [Gpu(str(torch.cuda.get_device_properties(device).uuid))] if device.type == "cuda" else []
    return Probes([Host(), *gpus])
