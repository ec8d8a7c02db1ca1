"""scripts/kubernetes: what it asks of a cluster, against the published schemas, and the records' way back.

There is no cluster here: the pod's own command line is really run, and a stand-in for kubectl replays its log.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

from bench.harness.record.files import read_record

SIZES = ((1, 1), (4, 8), (1, 8), (4, 1), (2, 0))


def submit(root: Path, *words: object, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "scripts/kubernetes/submit.py"), *map(str, words)]
    return subprocess.run(
        command, cwd=root, env=os.environ | environ, capture_output=True, text=True, timeout=60, check=False
    )


def rendered(root: Path, *words: object) -> list[dict]:
    """The objects that would be created, the ConfigMap first."""
    done = submit(root, "--image", "registry.example/tpbench", "--render", *words)
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    return listed["items"]


def strange_keys(given: object, known: object, path: str = "") -> list[str]:
    """What of an object its published model does not know, or knows otherwise."""
    if isinstance(given, dict) and isinstance(known, dict):
        return [
            strange
            for key, value in given.items()
            for strange in (strange_keys(value, known[key], f"{path}.{key}") if key in known else [f"{path}.{key}"])
        ]
    if isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        pairs = enumerate(zip(given, known, strict=True))
        return [strange for i, (one, other) in pairs for strange in strange_keys(one, other, f"{path}[{i}]")]
    return [] if given == known else [path]


def strange_in(train_job: dict) -> list[str]:
    return strange_keys(train_job, TrainerV1alpha1TrainJob.from_dict(train_job).to_dict())


@pytest.mark.unit
@pytest.mark.parametrize(("nodes", "gpus"), SIZES)
def test_what_is_asked_of_the_cluster_is_what_the_published_schemas_allow(root, suites, tmp_path, nodes, gpus):
    config_map, *jobs = rendered(
        *(root, "--out", tmp_path, "--nodes", nodes, "--gpus", gpus, "--env", "NCCL_SOCKET_IFNAME=eth0"),
        *("--resource", "memory=64Gi", "--name", "here", "block", *suites, "--seconds", "2"),
    )
    kubernetes_validate.validate(config_map, kubernetes_validate.latest_version(), strict=True)
    assert [strange_in(job) for job in jobs] == [[], []]
    assert [job["metadata"]["name"] for job in jobs] == ["here-0", "here-1"]
    trainer = jobs[0]["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (nodes, gpus or 1)
    assert trainer["args"] == ["block", "/suites/sound.toml", "--seconds", "2"]
    limits = trainer["resourcesPerNode"]["limits"]
    assert limits == {"memory": "64Gi"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {"cpu": "1"})


@pytest.mark.unit
def test_the_pods_that_come_of_it_are_what_kubernetes_allows(root, suites, tmp_path):
    _, job = rendered(root, "--out", tmp_path, "--gpus", 8, "ffn", suites[0])
    kubernetes_validate.validate(pod_of(job), kubernetes_validate.latest_version(), strict=True)


def pod_of(job: dict) -> dict:
    """The TrainJob's part of a pod, as Kubeflow Trainer puts it together."""
    (patch,) = job["spec"]["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    spec = replicated["template"]["spec"]["template"]["spec"]
    trainer = job["spec"]["trainer"]
    (container,) = spec["containers"]
    container |= {key: trainer[key] for key in ("image", "command", "args", "env")}
    container["resources"] = trainer["resourcesPerNode"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}


@pytest.mark.unit
@pytest.mark.parametrize(
    ("before", "after"),
    [("numNodes", "numNode"), ("mountPath", "mountpath"), ("runtimePatches", "podTemplateOverrides")],
)
def test_the_check_finds_a_misspelt_key(root, suites, tmp_path, before, after):
    _, job = rendered(root, "--out", tmp_path, "ffn", suites[0])
    text = json.dumps(job)
    assert before in text
    with pytest.raises(AssertionError):
        # A required key that is gone is told by the model itself.
        try:
            assert strange_in(json.loads(text.replace(before, after))) == []
        except ValueError as error:
            raise AssertionError from error


@pytest.mark.unit
def test_a_misspelt_key_of_a_config_map_is_found(root, suites, tmp_path):
    config_map, _ = rendered(root, "--out", tmp_path, "ffn", suites[0])
    config_map["dada"] = config_map.pop("data")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(config_map, kubernetes_validate.latest_version(), strict=True)


KUBECTL = """#!/usr/bin/env bash
set -euo pipefail
echo "$*" >>{folder}/asked
case "$*" in
  "create --filename -") cat >{folder}/created ;;
  "get trainjobs"*) echo '{{"status": {{"conditions": [{{"type": "Complete", "status": "True"}}]}}}}' ;;
  "get pods"*here-[01],*) [[ "$*" =~ here-[01] ]]; echo "pod/$BASH_REMATCH-node-0-0-x7k2p" ;;
  "logs pod/here-"*) [[ "$*" =~ here-[01] ]]; cat "{folder}/$BASH_REMATCH.log" ;;
  *) exit 1 ;;
esac
"""


def run_pod(job: dict, mounted: Path, log: Path) -> subprocess.Popen[bytes]:
    """The command line of a pod, as Kubeflow Trainer starts it, on this machine."""
    trainer = job["spec"]["trainer"]
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
    told = {"PET_NNODES": trainer["numNodes"], "PET_NPROC_PER_NODE": trainer["numProcPerNode"], "PET_NODE_RANK": 0}
    told |= {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}
    args = [word.replace("/suites/", f"{mounted}/") for word in trainer["args"]]
    with log.open("wb") as file:
        return subprocess.Popen(
            [*trainer["command"], *args],
            env=os.environ | {name: str(value) for name, value in told.items()},
            stdout=file,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.dist
@pytest.mark.solo
def test_records_come_back_through_the_log_of_the_first_pod(root, suites, tmp_path):
    what = ("--folder", root, "--gpus", 0, "--name", "here", "ffn", *suites, "--seconds", "0.2")
    config_map, *jobs = rendered(root, "--out", tmp_path / "out", *what)
    for name, text in config_map["data"].items():
        (tmp_path / name).write_text(text)
    pods = [run_pod(job, tmp_path, tmp_path / f"{job['metadata']['name']}.log") for job in jobs]
    # Kubernetes would measure again what ended otherwise.
    assert [pod.wait(timeout=120) for pod in pods] == [0, 0]

    kubectl = tmp_path / "bin/kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text(KUBECTL.format(folder=tmp_path))
    kubectl.chmod(0o755)
    path = f"{kubectl.parent}:{os.environ['PATH']}"
    done = submit(root, "--image", "registry.example/tpbench", "--out", tmp_path / "out", *what, PATH=path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert json.loads((tmp_path / "created").read_text())["items"] == [config_map, *jobs]
    assert f"sound: done, {tmp_path}/out/sound.jsonl" in done.stdout
    assert done.stderr.splitlines() == [
        f"error: unsound: --tp 3: does not divide the world of 1; use 1; see {tmp_path}/out/unsound.log"
    ]
    (run,) = read_record(tmp_path / "out/sound.jsonl").runs
    assert (run.header.world, [result.status for _, result in run.ended()]) == (1, ["ok"])
    assert "1 cases" in (tmp_path / "out/sound.log").read_text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["sound.jsonl", "sound.log", "unsound.log"]


def printed(record: str, *, cut: int | None = None) -> str:
    """A log as pod.sh ends it."""
    script = 'gzip -c | base64; echo "tpbench: record ends, sha256 $0, exit code 0"'
    digest = subprocess.run(["sha256sum"], input=record.encode(), capture_output=True, check=True).stdout[:64].decode()
    packed = subprocess.run(["bash", "-c", script, digest], input=record.encode(), capture_output=True, check=True)
    return f"said before\ntpbench: record begins\n{packed.stdout.decode()[:cut]}"


LOGS = {
    "whole": (printed("a line\n"), ""),
    "killed early": ("said before\n", "holds no record: its ranks are not done, or the pod was killed before it"),
    "killed late": (printed("a line\n", cut=10), "stops within its record: the pod was killed while it printed it"),
    "a line lost": (
        printed("".join(map(str, range(99)))).replace("begins\n", "begins\nAAAA"),
        "holds a damaged record",
    ),
    "another record": (printed("a line\n").replace("sha256 ", "sha256 0")[:-1] + "\n", "stops within its record"),
}


@pytest.mark.unit
@pytest.mark.parametrize("name", LOGS)
def test_a_record_is_cut_out_of_a_log_whole_or_not_at_all(root, tmp_path, name):
    log, complaint = LOGS[name]
    command = [sys.executable, str(root / "scripts/kubernetes/record_of_log.py"), str(tmp_path / "a.jsonl")]
    done = subprocess.run(command, input=log, capture_output=True, text=True, check=False)
    if complaint:
        assert (done.returncode, (tmp_path / "a.jsonl").exists()) == (1, False)
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: the log {complaint}")
    else:
        assert (done.returncode, (tmp_path / "a.jsonl").read_text()) == (0, "a line\n")


BAD = {
    "--image x --out {out}": "error: no block: cannot be measured; name attention, ffn, block, and then the suites",
    "--out {out} ffn {sound}": "error: the following arguments are required: --image; --help lists the flags",
    "--image x --out {out} ffn": "error: no suite to run; name TOML files of sweeps, like configs/suites/*.toml, "
    "after ffn",
    "--image x --out {out} ffn gone.toml": "error: gone.toml: cannot be read (No such file or directory); "
    "name a suite, as those in configs/suites",
    "--image x --out {out} --gpus -1 ffn {sound}": "error: --gpus -1: is too few; give at least 0",
    "--image x --out {out} --name Run_1 ffn {sound}": "error: --name Run_1: use up to 40 small letters, digits and -, "
    "beginning with a letter",
    "--image x --out {out} --env PET_NNODES=2 ffn {sound}": "error: --env PET_NNODES: Kubeflow Trainer sets it; "
    "use --nodes and --ranks-per-node",
    "--image x --out {out} --env A ffn {sound}": "error: --env A: is no pair; write NAME=VALUE",
    "--image x --out {out} ffn {sound} {sound}": "error: {sound}: is the second suite of that name; rename the file",
    "--image x --out {there} ffn {sound}": "error: kubectl: is not on PATH; install it, "
    "or create what --render prints by other means",
}


@pytest.mark.unit
@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_line(root, suites, tmp_path, words):
    places = {"sound": suites[0], "out": tmp_path / "out", "there": tmp_path}
    done = submit(root, *words.format(**places).split(), PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [BAD[words].format(**places)]
    assert not (tmp_path / "out").exists()
