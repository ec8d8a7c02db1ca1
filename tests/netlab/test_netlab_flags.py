"""The words of scripts/netlab's command line, and what they mean."""

import importlib
import sys
from pathlib import Path

import pytest

from tp.errors import ConfigError

pytestmark = pytest.mark.unit

LABORATORY = Path(__file__).resolve().parents[2] / "scripts" / "laboratory"


@pytest.fixture
def resolve(monkeypatch):
    monkeypatch.syspath_prepend(str(LABORATORY))
    flags = importlib.import_module("flags")
    assert Path(flags.__file__).parent == LABORATORY
    yield flags.resolve
    del sys.modules["flags"]


@pytest.mark.parametrize(
    ("rate", "bits_per_s"),
    [
        ("100mbit", 10**8),
        ("2.5gbit", 25 * 10**8),
        ("1e9bit", 10**9),
        ("1Gbit", 10**9),
        ("10kibit", 10240),
        ("1mbps", 8e6),
    ],
)
def test_rates_are_in_tcs_units(resolve, rate, bits_per_s):
    assert resolve(["--rate", rate, "--", "true"]).rate.bits_per_s == bits_per_s


def test_the_command_is_what_follows_the_first_dashes(resolve):
    lab = resolve(["--hosts", "3", "--", "a", "--hosts", "9", "--", "b"])
    assert (lab.num_hosts, lab.rate, lab.command) == (3, None, ("a", "--hosts", "9", "--", "b"))


def test_links_are_switched_in_the_order_of_time(resolve):
    lab = resolve(["--down", "0:5:1,1:0.5", "--", "true"])
    assert [(each.after_s, each.host, each.state) for each in lab.switchings] == [
        (0.5, 1, "down"),
        (5.0, 0, "down"),
        (6.0, 0, "up"),
    ]


BAD = {
    "no command": ([], "no command to run on the hosts; put it behind --"),
    "nothing behind --": (["--hosts", "2", "--"], "no command to run on the hosts; put it behind --"),
    "no host": (["--hosts", "0", "--", "true"], "--hosts 0: not a positive whole number"),
    "too many hosts": (["--hosts", "999", "--", "true"], "--hosts 999: more than one network has addresses for"),
    "unknown flag": (["--rat", "1gbit", "--", "true"], "--rat: no such flag; did you mean --rate?"),
    "rate without unit": (["--rate", "100", "--", "true"], "--rate 100: not a rate; give a number and its unit"),
    "rate in bytes": (["--rate", "100MB", "--", "true"], "--rate 100MB: not a rate"),
    "rate of nothing": (["--rate", "0mbit", "--", "true"], "--rate 0mbit: out of range"),
    "rate without end": (["--rate", "1e99gbit", "--", "true"], "--rate 1e99gbit: out of range"),
    "delay": (["--delay", "fast", "--", "true"], "--delay fast: not a time"),
    "mtu": (["--mtu", "70000", "--", "true"], "--mtu 70000: out of range"),
    "down of nobody": (["--down", "2:1", "--", "true"], "--down 2:1: there is no host 2; give one from 0 to 1"),
    "down of never": (["--down", "1", "--", "true"], "--down 1: not HOST:SECONDS"),
    "grace": (["--grace", "-1", "--", "true"], "--grace"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_sense_is_one_line(resolve, name):
    words, expected = BAD[name]
    with pytest.raises(ConfigError) as error:
        resolve(words)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
