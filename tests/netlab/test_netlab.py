"""scripts/netlab: hosts that are what they say, a link that is shaped, and nothing left whatever happened."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.netlab.conftest import NETLAB, needs_netlab

pytestmark = [pytest.mark.dist, pytest.mark.solo, needs_netlab]

MBIT_PER_S = 100

# What a host knows of itself and of the others.
SELF = """
import json, os, socket, sys, tomllib
names = [f"host{i}" for i in range(int(os.environ["PET_NNODES"]))]
kept = ("PET_", "GLOO_", "NCCL_", "OMP_")
link = os.environ.get("TPBENCH_NETWORK")
known = {
    "hostname": socket.gethostname(),
    "addresses": [socket.gethostbyname(name) for name in names],
    "interfaces": sorted(os.listdir("/sys/class/net")),
    "environ": {name: value for name, value in os.environ.items() if name.startswith(kept)},
    "link": link and tomllib.load(open(link, "rb")),
    "link_file": link,
}
# In one write, which nobody's can come in between: print may take two.
sys.stdout.write(json.dumps(known) + "\\n")
sys.stderr.write("to stderr\\n")
"""

# Host 1 sends bytes to host 0, which says how fast they came, in Mbit/s; as often and as many as told.
TRANSFER = """
import os, socket, sys, time
times, size = int(sys.argv[1]), int(sys.argv[2])
if os.environ["PET_NODE_RANK"] == "0":
    with socket.create_server(("", 5000)) as server:
        for _ in range(times):
            with server.accept()[0] as peer:
                # The sender's clock, which is the same: a receiver that looks late must not seem fast.
                begin = float(peer.recv(32, socket.MSG_WAITALL))
                while peer.recv(1 << 20):
                    pass
                print(size * 8 / (time.perf_counter() - begin) / 1e6)
else:
    for _ in range(times):
        while True:
            try:
                peer = socket.create_connection(("host0", 5000))
                break
            except OSError:
                time.sleep(0.02)
        peer.sendall(f"{time.perf_counter():032.9f}".encode())
        peer.sendall(bytes(size))
        peer.close()
"""

# All others count, in a datagram each; host 0 says who told which number, until all are silent.
COUNT = """
import os, socket, time
rank = os.environ["PET_NODE_RANK"]
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if rank == "0":
    end.bind(("", 5000))
    end.settimeout(10)
    try:
        while True:
            print(end.recv(99).decode())
            end.settimeout(1)
    except TimeoutError:
        pass
else:
    for number in range(100):
        try:
            end.sendto(f"{rank} {number}".encode(), ("host0", 5000))
        except OSError:
            pass
        time.sleep(0.02)
"""


@dataclass(frozen=True)
class Watched:
    """A laboratory whose every trace can be found."""

    process: subprocess.Popen
    mark: str
    tmp: Path

    def traces(self) -> list[str]:
        prefix = f"netlab-{self.process.pid}-"
        folders = [folder for folder in (Path("/run/netns"), Path("/etc/netns")) if folder.is_dir()]
        found = [str(path) for folder in folders for path in folder.iterdir() if path.name.startswith(prefix)]
        found += [str(path) for path in self.tmp.iterdir()]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark in (process / "environ").read_text(errors="replace"):
                    found.append(f"{process}: {(process / 'cmdline').read_text()!r}")
            except OSError:
                pass
        return found

    def end(self, seconds: float = 60) -> tuple[int, str, str]:
        """Exit code, stdout, stderr; and nothing is left of it."""
        stdout, stderr = self.process.communicate(timeout=seconds)
        assert self.traces() == []
        return self.process.returncode, stdout, stderr


@pytest.fixture
def watched(start_netlab, tmp_path):
    """Start a laboratory under watch."""

    def start(*words, **environ):
        mark, tmp = f"NETLAB_TEST={uuid.uuid4()}", tmp_path / uuid.uuid4().hex
        tmp.mkdir()
        name, value = mark.split("=")
        return Watched(start_netlab(*words, **{name: value, "TMPDIR": str(tmp)} | environ), mark, tmp)

    return start


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing came of it in time"
        time.sleep(0.02)


def in_host(index, host0, others):
    """bash for one host, and for the others."""
    return ["bash", "-c", f"if [ $PET_NODE_RANK = {index} ]; then {host0}; else {others}; fi"]


def test_every_host_is_a_node_of_its_own(netlab):
    done = netlab("--hosts", "3", "--rate", "2.5GBit", "--", "python", "-c", SELF, OMP_NUM_THREADS="3")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stderr.splitlines()) == ["host1: to stderr", "host2: to stderr", "to stderr"]
    lines = sorted(done.stdout.splitlines(), key=lambda line: line[: line.index("{")])
    assert [line[: line.index("{")] for line in lines] == ["", "host1: ", "host2: "]
    hosts = [json.loads(line[line.index("{") :]) for line in lines]
    addresses = hosts[0]["addresses"]
    assert len(set(addresses)) == 3
    for index, host in enumerate(hosts):
        assert host["hostname"] == f"host{index}"
        assert host["addresses"] == addresses
        assert host["interfaces"] == ["eth0", "lo"]
        assert host["environ"] == {
            "PET_NNODES": "3",
            "PET_NODE_RANK": str(index),
            "PET_MASTER_ADDR": addresses[0],
            "PET_MASTER_PORT": "29400",
            "GLOO_SOCKET_IFNAME": "eth0",
            "NCCL_SOCKET_IFNAME": "eth0",
            "OMP_NUM_THREADS": "3",
        }
        assert host["link"].pop("source").startswith("scripts/netlab: a token bucket")
        assert host["link"] == {
            "name": "netlab-2.5gbit",
            "kind": "ethernet",
            "bytes_per_s": 2.5e9 / 8,
            "direction": "one-way",
            "ports_per_node": 1,
            "burst_bytes": 156250,  # half a millisecond
        }
        assert not Path(host["link_file"]).exists()


def test_an_unshaped_link_is_not_described_and_the_callers_folder_stays(netlab, tmp_path):
    (tmp_path / "self.py").write_text(SELF)
    done = netlab("--hosts", "1", "--", "python", "self.py", cwd=tmp_path, TPBENCH_NETWORK="roce-100")
    assert json.loads(done.stdout)["link"] is None


def test_the_rate_holds(netlab):
    size = MBIT_PER_S * 10**6 // 8 // 3
    done = netlab("--rate", f"{MBIT_PER_S}mbit", "--", "python", "-c", TRANSFER, "4", str(size))
    assert done.returncode == 0, done.stderr
    rates = list(map(float, done.stdout.split()))
    # Work beside it only slows a transfer; the bucket's first burst is 0.4 % of one.
    assert len(rates) == 4
    assert 0.85 * MBIT_PER_S < max(rates) < 1.01 * MBIT_PER_S


def test_laboratories_side_by_side_are_apart(watched):
    # Both have the same addresses and the same port.
    labs = [watched("--rate", f"{rate}mbit", "--", "python", "-c", TRANSFER, "1", "2000000") for rate in (20, 80)]
    wait_for(lambda: all(lab.traces() for lab in labs))
    slow, fast = (float(lab.end()[1]) for lab in labs)
    assert slow < 21 < fast < 84


def test_a_link_that_is_down_carries_nothing(netlab):
    done = netlab("--hosts", "4", "--down", "1:1:0.5,2:1", "--", "python", "-c", COUNT)
    assert done.returncode == 0, done.stderr
    told = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    flapped, gone, steady = ([number for host, number in told if host == rank] for rank in (1, 2, 3))
    # Host 0 may not have listened yet when the first came.
    assert steady == list(range(steady[0], 100)) and steady[0] < 20
    lost = sorted(set(range(flapped[0], 100)) - set(flapped))
    assert len(lost) >= 10 and lost == list(range(lost[0], lost[-1] + 1))
    assert flapped[-1] == 99
    assert gone == list(range(gone[0], gone[-1] + 1)) and gone[-1] < 60
    switched = ["netlab: host1's link is down", "netlab: host2's link is down", "netlab: host1's link is up"]
    assert done.stderr.splitlines() == switched


def test_nothing_is_left_after_success_even_of_what_was_detached(watched):
    code, stdout, stderr = watched("--rate", "1gbit", "--", "bash", "-c", "setsid sleep 1000 & echo done").end(20)
    assert (code, sorted(stdout.splitlines()), stderr) == (0, ["done", "host1: done"], "")


def test_the_first_failure_is_the_exit_code_and_the_others_may_end(watched):
    lab = watched("--rate", "1gbit", "--", *in_host(1, "exit 7", "sleep 0.3; echo said why; exit 3"))
    code, stdout, stderr = lab.end()
    assert (code, stdout) == (7, "said why\n")
    assert stderr == "netlab: host1 ended with exit code 7; the others have 40 s to end\n"


def test_who_does_not_end_in_its_grace_is_ended(watched):
    lab = watched("--grace", "0.2", "--", *in_host(0, "kill -9 $$", "trap 'echo told; exit 1' TERM; sleep 1000"))
    code, stdout, _ = lab.end(20)
    assert (code, stdout) == (128 + signal.SIGKILL, "host1: told\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_every_host_and_nothing_is_left(watched, tmp_path, number):
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, by a shell that runs this in the background")
    before = os.listdir("/sys/class/net")
    named = number.name.removeprefix("SIG")
    wait = f"trap 'echo told; exit 0' {named}; touch {tmp_path}/ready$PET_NODE_RANK; while true; do sleep 0.1; done"
    lab = watched("--rate", "1gbit", "--", "bash", "-c", wait)
    wait_for(lambda: all((tmp_path / f"ready{rank}").exists() for rank in (0, 1)))
    # Three namespaces, two files of names, the link's folder; of processes netlab itself and two of each host.
    assert len(lab.traces()) >= 3 + 2 + 1 + 3
    assert os.listdir("/sys/class/net") == before
    lab.process.send_signal(number)
    code, stdout, _ = lab.end(20)
    assert (code, sorted(stdout.splitlines())) == (128 + number, ["host1: told", "told"])


def test_a_set_up_that_fails_half_way_is_undone(watched, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    seen = tmp_path / "seen"
    (folder / "tc").write_text(
        f"#!/bin/sh\ncase $2 in *host1) ls /run/netns /etc/netns >{seen}; echo no more queues >&2; exit 1; esac\n"
        f'exec {shutil.which("tc")} "$@"\n'
    )
    (folder / "tc").chmod(0o755)
    lab = watched("--rate", "1gbit", "--", "echo", "never", PATH=f"{folder}:{os.environ['PATH']}")
    code, stdout, stderr = lab.end(20)
    assert seen.read_text().count(f"netlab-{lab.process.pid}-host") == 4
    assert (code, stdout) == (2, "")
    assert stderr.count("\n") == 1
    assert "error: no tbf to be had" in stderr and "says no more queues; use a machine" in stderr


def test_a_terminal_stays_a_terminal():
    ours, theirs = pty.openpty()
    words = [NETLAB, "--", "bash", "-c", "test -t 0 && test -t 1 && echo yes || echo no"]
    code = subprocess.run(words, stdin=theirs, stdout=theirs, timeout=60, check=False).returncode
    os.close(theirs)
    said = os.read(ours, 1000).decode().splitlines()
    os.close(ours)
    assert (code, sorted(said)) == (0, ["host1: no", "yes"])


def test_bad_input_is_one_line(netlab):
    assert_refused(netlab("--rate", "100", "--", "true"), "--rate 100: not a rate")
    assert_refused(netlab("--", "nosuchcommand"), "nosuchcommand: no such command to run on the hosts")


def assert_refused(done, *expected):
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    for words in expected:
        assert words in done.stderr


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        (["--reuid", "65534", "--clear-groups"], "no right to make network namespaces, as user"),
        (["--bounding-set=-sys_admin"], "no network namespace to be had: 'ip netns add"),
        (["--bounding-set=-net_admin"], "no bridge to be had: 'ip -n"),
    ],
)
def test_without_roots_rights_it_refuses(tmp_path, without, expected):
    words = ["setpriv", *without, "bash", NETLAB, "--", "touch", tmp_path / "ran"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert_refused(done, expected, "root")
    assert not (tmp_path / "ran").exists()


def test_a_missing_tool_is_named(netlab, tmp_path):
    for tool in ("bash", "dirname", "id", "cat", "sha256sum", "cut", "ip", "unshare", "hostname", "true"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    assert_refused(
        netlab("--", "true", PATH=str(tmp_path), PYTHON=sys.executable), "no command tc on PATH; install iproute2"
    )


def test_delay_is_there_or_refused(netlab):
    delay = "unshare --net tc qdisc add dev lo root netem delay 1ms".split()
    has_netem = subprocess.run(delay, capture_output=True, check=False).returncode == 0
    ping = (
        "import os, socket, time; server = socket.create_server(('', 5000)); time.sleep(1); begin = time.monotonic();"
        "socket.create_connection((os.environ['PET_MASTER_ADDR'], 5000));"
        "print(f'{time.monotonic() - begin}\\n', end='')"
    )
    done = netlab("--delay", "30ms", "--", "python", "-c", ping)
    if not has_netem:
        assert_refused(done, "no netem for --delay to be had", "leave --delay out")
        return
    assert any(float(line.removeprefix("host1: ")) >= 0.06 for line in done.stdout.splitlines())
