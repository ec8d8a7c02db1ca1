"""The NVLinks of a GPU, counted through NVML; loads without torch.

Source: NVML API reference, "NvLink Methods" and "Field Value Enums". A call that one link refuses fails as a whole: a
sum over the others would look like less traffic or fewer errors.
"""

from collections import Counter
from typing import Final

import pynvml

from bench.harness.machine.ask import Handle, ask, field_values

_VERSIONS: Final = {1: "1.0", 2: "2.0", 3: "2.2", 4: "3.0", 5: "3.1", 6: "4.0", 7: "5.0", 8: "6.0"}
_ERROR_COUNTERS: Final = (
    pynvml.NVML_NVLINK_ERROR_DL_REPLAY,
    pynvml.NVML_NVLINK_ERROR_DL_RECOVERY,
    pynvml.NVML_NVLINK_ERROR_DL_CRC_FLIT,
)


def num_links(handle: Handle) -> int:
    """Links of the GPU, up or down; raises NVMLError where it has none that can be asked."""
    return len(_states(handle))


def num_active(handle: Handle) -> int:
    """Links that are up; the errors are those of `num_links`."""
    return len(_active(handle))


def sent_bytes(handle: Handle) -> int:
    """Data sent over all links that are up, without protocol overhead; raises ValueError where none is."""
    return _throughput_bytes(handle, pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX)


def received_bytes(handle: Handle) -> int:
    """Data received over all links that are up, without protocol overhead; raises ValueError where none is."""
    return _throughput_bytes(handle, pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX)


def num_errors(handle: Handle) -> int:
    """Replays, recoveries and CRC errors of all links."""
    return sum(
        int(ask("nvmlDeviceGetNvLinkErrorCounter", handle, link, counter))
        for link in _states(handle)
        for counter in _ERROR_COUNTERS
    )


def version(handle: Handle) -> str:
    """NVLink's version, that of the first link."""
    number = ask("nvmlDeviceGetNvLinkVersion", handle, next(iter(_states(handle))))
    return _VERSIONS.get(number, f"number {number} of NVML")


def peers(handle: Handle) -> dict[str, int]:
    """How many of the links that are up go to a switch, and how many to which PCI bus id."""
    return dict(sorted(Counter(_peer(handle, link) for link in _active(handle)).items()))


def _peer(handle: Handle, link: int) -> str:
    if ask("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link) == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
        return "switch"
    return str(ask("nvmlDeviceGetNvLinkRemotePciInfo", handle, link).busId)


def _active(handle: Handle) -> list[int]:
    return [link for link, state in _states(handle).items() if state == pynvml.NVML_FEATURE_ENABLED]


def _states(handle: Handle) -> dict[int, int]:
    """By link. NVML refuses the numbers that a GPU has no link for; another error is one of the GPU."""
    found: dict[int, int] = {}
    refused = None
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        try:
            found[link] = int(ask("nvmlDeviceGetNvLinkState", handle, link))
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_InvalidArgument) as error:
            refused = refused or error
    if refused and not found:
        raise refused
    return found


def _throughput_bytes(handle: Handle, field: int) -> int:
    active = _active(handle)
    if not active:
        raise ValueError("no NVLink is up")
    kibibytes = field_values(handle, [(field, link) for link in active])
    return sum(int(value) * 1024 for value in kibibytes)
