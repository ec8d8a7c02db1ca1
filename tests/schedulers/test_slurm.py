"""scripts/slurm on a real Slurm: a controller and two nodes of this machine, started for these tests."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.harness.record.files import read_record

# Mostly waiting, and nothing in it is timed: others may share the cores.
pytestmark = [pytest.mark.dist, pytest.mark.solo]

MISSING = [name for name in ("slurmctld", "slurmd", "sbatch", "srun", "scontrol") if shutil.which(name) is None]
needs_slurm = pytest.mark.skipif(
    bool(MISSING) or os.geteuid() != 0,
    reason=f"needs {', '.join(MISSING)} of Debian's slurmctld, slurmd, slurm-client" if MISSING else "needs root",
)

# Without munge and control groups, which a container need not have; nodes of one machine differ by their ports.
CONF = """
ClusterName=tpbench
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
FirstJobId={first_job}
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/d-%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d-%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=1000
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=1000
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP
"""
PATIENCE_S = 40.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The variables by which Slurm's commands find a cluster of two nodes, n1 and n2."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("ctld", "d-n1", "d-n2"):
        (folder / name).mkdir()
    # Ports of the ranks follow from the job's number: another cluster of this machine has others.
    conf = CONF.format(folder=folder, ports=free_ports(3), first_job=random.randrange(1, 10_000))
    (folder / "slurm.conf").write_text(conf)
    # Both nodes are this machine, whose name need not stand for more than itself.
    environ = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "GLOO_SOCKET_IFNAME": "lo"}
    with daemons(["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"], env=environ):
        wait_for(["sinfo", "--noheader", "--Node", "--format", "%T"], "idle\nidle\n", environ)
        yield environ
        # A test that failed may have left a job, which would outlive its cluster.
        subprocess.run(["scancel", "--user", "root"], env=environ, check=True)
        wait_for(["squeue", "--noheader"], "", environ)


@contextmanager
def daemons(*commands: list[str], env: dict[str, str]) -> Iterator[None]:
    """Processes that are ended with the context, however it ends."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for words in commands:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            running.append(subprocess.Popen(words, env=env, start_new_session=True, **quiet))
        yield
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_for(command: list[str], printed: str, environ: dict[str, str]) -> None:
    """Ask Slurm until it says what is expected."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        asked = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        if (asked.returncode, asked.stdout) == (0, printed):
            return
        time.sleep(0.2)
    pytest.fail(f"{command[0]} after {PATIENCE_S:g} s: {asked.stdout}{asked.stderr}")


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in taken]
    for server in taken:
        server.close()
    return ports


def submit(root: Path, *words: object, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(root / "scripts/slurm/submit"), *map(str, words)]
    return subprocess.run(command, env=environ, cwd=root, capture_output=True, text=True, timeout=120, check=False)


@needs_slurm
def test_an_array_of_suites_brings_back_what_each_measured_and_says_which_failed(root, cluster, suites, tmp_path):
    done = submit(
        *(root, "--out", tmp_path, "--nodes", 2, "--ranks-per-node", 1, "--oversubscribe"),
        *("ffn", *suites, "--seconds", "0.2"),
        environ=cluster,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"sound: done, {tmp_path}/sound.jsonl" in done.stdout
    # Each node says it, in any order.
    assert done.stderr.replace("rank 1 on n2: ", "").splitlines() == [
        f"error: unsound: --tp 3: does not divide the world of 2; use 1, 2; see {tmp_path}/unsound.log"
    ]
    (run,) = read_record(tmp_path / "sound.jsonl").runs
    assert (run.header.world, run.header.num_nodes) == (2, 2)
    ranks = run.header.environment["ranks"]
    assert [rank["node"] for rank in ranks] == ["n1", "n2"]
    assert {rank["variables"]["GLOO_SOCKET_IFNAME"] for rank in ranks} == {"lo"}
    assert [result.status for _, result in run.ended()] == ["ok", "ok"]
    assert run.lines[-1].line == "end"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sound.jsonl", "sound.log", "unsound.log"]


@needs_slurm
def test_without_a_shared_file_system_the_records_are_fetched_from_the_first_node(root, cluster, suites, tmp_path):
    of_the_node = tmp_path / "node"
    of_the_node.mkdir()
    done = submit(
        *(root, "--out", tmp_path / "here", "--local", of_the_node, "--nodelist", "n2", "ffn", suites[0]),
        *("--seconds", "0.1"),
        environ=cluster,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = read_record(tmp_path / "here/sound.jsonl").runs
    assert [rank["node"] for rank in run.header.environment["ranks"]] == ["n2"]
    (left,) = of_the_node.glob("tpbench-*/sound.jsonl")
    assert left.read_bytes() == (tmp_path / "here/sound.jsonl").read_bytes()
    assert "nodes (n2)" in (tmp_path / "here/sound.log").read_text()


@needs_slurm
def test_what_slurm_refuses_is_one_line(root, cluster, suites, tmp_path):
    done = submit(root, "--out", tmp_path, "--partition", "nowhere", "ffn", suites[0], environ=cluster)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: sbatch: ") and "--partition nowhere" in line


BAD = {
    "": "error: no block to measure; name attention, ffn or block, and then the suites",
    "ffn": "error: no suite to run; name TOML files of sweeps, like configs/suites/*.toml, after ffn",
    "--out": "error: --out: has no value; give it one",
    "ffn {sound}": "error: --out: is missing; name the folder that the records come back to",
    "--out {out} ffn gone.toml": "error: {root}/gone.toml: there is no such file; "
    "name a suite, as those in configs/suites",
    "--out {out} ffn {sound} {sound}": "error: {sound}: is the second suite of that name; rename the file",
    "--out {out} ffn {sound}": "error: sbatch: is not on PATH; run this where a cluster takes jobs, "
    "or measure this machine with scripts/run",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_line_and_nothing_is_submitted(root, suites, tmp_path, words):
    places = {"root": root, "sound": suites[0], "out": tmp_path / "out"}
    done = submit(root, *words.format(**places).split(), environ={"PATH": str(bin_without_slurm(tmp_path))})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [BAD[words].format(**places)]
    assert not (tmp_path / "out").exists()


def test_a_record_that_is_there_is_not_overwritten(root, suites, tmp_path):
    (tmp_path / "sound.jsonl").write_text("measured before")
    done = submit(root, "--out", tmp_path, "ffn", suites[0])
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {tmp_path}/sound.jsonl: exists already; name another folder with --out, or add --resume\n",
    )


def bin_without_slurm(folder: Path) -> Path:
    """A folder with the few commands that are needed before Slurm is."""
    place = folder / "bin"
    place.mkdir()
    for name in ("bash", "env", "dirname", "basename", "mkdir"):
        (place / name).symlink_to(str(shutil.which(name)))
    return place
