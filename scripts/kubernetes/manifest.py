"""What is asked of the cluster: a ConfigMap with the suites, and a TrainJob for each, as plain data; runs nothing."""

from pathlib import PurePosixPath
from typing import Any, Final

from request import Request

Object = dict[str, Any]

# Of the runtime torch-distributed: its replicated job and the container in it have the same name.
NODE: Final = "node"
SUITES: Final = PurePosixPath("/suites")
# NCCL's buffers between the GPUs of a node lie there; a container has 64 MiB otherwise.
SHARED_MEMORY: Final = PurePosixPath("/dev/shm")
# For the ranks to close their record and for the pod to print it.
GRACE_S: Final = 120
RUN_LABEL: Final = "tpbench-run"


def manifest(request: Request) -> Object:
    """Everything that the run needs, for `kubectl create`."""
    jobs = [_train_job(request, suite) for suite in request.suites]
    return {"apiVersion": "v1", "kind": "List", "items": [_config_map(request), *jobs]}


def _config_map(request: Request) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": request.name, "labels": {RUN_LABEL: request.name}},
        "data": {f"{name}.toml": text for name, text in request.suites.items()},
    }


def _train_job(request: Request, suite: str) -> Object:
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": request.job(suite), "labels": {RUN_LABEL: request.name}},
        "spec": {
            "runtimeRef": {"name": request.runtime},
            "trainer": {
                "image": request.image,
                "command": ["bash", str(request.folder / "scripts/kubernetes/pod.sh")],
                "args": [request.block, str(SUITES / f"{suite}.toml"), *request.bench_flags],
                "numNodes": request.nodes,
                "numProcPerNode": request.ranks_per_node,
                "resourcesPerNode": {"limits": _resources(request)},
                "env": [{"name": name, "value": value} for name, value in request.env.items()],
            },
            "runtimePatches": [_patch(request)],
        },
    }


def _resources(request: Request) -> dict[str, str]:
    own = {"nvidia.com/gpu": str(request.gpus)} if request.gpus else {"cpu": str(request.ranks_per_node)}
    return own | request.resources


def _patch(request: Request) -> Object:
    """What a TrainJob cannot say of its pods by itself."""
    pod = {
        "terminationGracePeriodSeconds": GRACE_S,
        "containers": [
            {
                "name": NODE,
                "volumeMounts": [
                    {"name": "suites", "mountPath": str(SUITES), "readOnly": True},
                    {"name": "shared-memory", "mountPath": str(SHARED_MEMORY)},
                ],
            }
        ],
        "volumes": [
            {"name": "suites", "configMap": {"name": request.name}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
        ],
    }
    job = {"name": NODE, "template": {"spec": {"template": {"spec": pod}}}}
    return {"manager": "tpbench/submit", "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}
