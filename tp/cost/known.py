"""Calibrations at hand: a user's file, those that come with the project, and none, with only a data sheet."""

from dataclasses import dataclass, replace
from pathlib import Path

from tp import catalogue, schema
from tp.cost.calibrated import CALIBRATION_VERSION, Calibration
from tp.errors import ConfigError
from tp.hardware import Device, Link, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCalibration:
    """A calibration and what to call it."""

    calibration: Calibration
    label: str


def known_calibration(path: str, node: Node, link: Link) -> KnownCalibration | None:
    """The file that is given, else the one shipped for the node's device, else what is expected of a GPU of its class.

    Collectives of what is shipped were measured over the node's default link, so over another none of their curves
    holds. None for a device of which nothing is expected, such as a CPU; ConfigError for a file that is no calibration
    of it.
    """
    device = node.device
    if path:
        return KnownCalibration(calibration=load_calibration(Path(path), device=device.name), label=path)
    shipped = shipped_calibration(device)
    if shipped is not None:
        label = f"shipped, of published tables of {shipped.hardware}"
        if link.name == node.link().name:
            return KnownCalibration(calibration=shipped, label=label)
        without = replace(shipped, collectives={}, rank_laws={})
        return KnownCalibration(calibration=without, label=f"{label}; collectives over {link.name} expected")
    if device.architecture is None:
        return None
    label = f"none: expected of the data sheet and of measured GPUs like it ({device.architecture})"
    return KnownCalibration(calibration=expected_calibration(device), label=label)


def open_calibration(path: Path) -> Calibration:
    """Read a calibration of whatever machine; ConfigError when the file is none."""
    if not path.is_file():
        raise ConfigError(f"--calibration {path}: no such file; make one with 'python -m analysis calibrate'")
    return schema.load_json(path, Calibration)


def shipped_calibration(device: Device) -> Calibration | None:
    """The calibration that comes with the project for a device, from configs/calibrations; None where none does."""
    for path in sorted((catalogue.CONFIGS / "calibrations").glob("*.json")):
        calibration = open_calibration(path)
        if calibration.hardware == device.name:
            return calibration
    return None


def expected_calibration(device: Device) -> Calibration:
    """A calibration without a curve: everything is priced by what is expected of the device."""
    return Calibration(
        schema_version=CALIBRATION_VERSION,
        hardware=device.name,
        created="",
        sources=(),
        gemm={},
        attention={},
        elementwise={},
        collectives={},
    )


def load_calibration(path: Path, *, device: str) -> Calibration:
    """Read the calibration of `device`; ConfigError when the file is none, or that of another device."""
    calibration = open_calibration(path)
    if calibration.hardware != device:
        raise ConfigError(
            f"--calibration {path}: is of {calibration.hardware}, not of {device}; calibrate that, or name --hardware"
        )
    return calibration
