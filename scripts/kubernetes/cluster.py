"""What becomes of a TrainJob, asked of kubectl."""

import json
import subprocess
import time
from typing import Any, Final

# A network may be gone for a while; a run of hours is not given up for it.
PATIENCE_S: Final = 300.0


class ClusterError(Exception):
    """What kubectl says when it fails."""


class Cluster:
    """kubectl, in the namespace of the run."""

    def __init__(self, namespace: str | None, *, poll_s: float = 5.0) -> None:
        self._command = ["kubectl", *(["--namespace", namespace] if namespace else [])]
        self._poll_s = poll_s

    def ask(self, *words: str, given: str | None = None) -> str:
        """What kubectl prints; ClusterError, with its first line, when it fails."""
        done = subprocess.run([*self._command, *words], input=given, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip() or f"exit code {done.returncode}"
            raise ClusterError(f"kubectl {words[0]}: {said.splitlines()[0]}")
        return done.stdout

    def wait(self, job: str) -> None:
        """Until a TrainJob has ended, well or not."""
        answered = time.monotonic()
        while True:
            try:
                found = json.loads(self.ask("get", "trainjobs.trainer.kubeflow.org", job, "--output", "json"))
                answered = time.monotonic()
                if _has_ended(found):
                    return
            except ClusterError as error:
                if "NotFound" in str(error) or time.monotonic() - answered > PATIENCE_S:
                    raise
            time.sleep(self._poll_s)

    def log_of_first_node(self, job: str) -> str:
        """What the pod of rank 0 printed."""
        labels = {
            "jobset.sigs.k8s.io/jobset-name": job,
            "jobset.sigs.k8s.io/replicatedjob-name": "node",
            "batch.kubernetes.io/job-completion-index": "0",
        }
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        pods = self.ask("get", "pods", "--selector", selector, "--output", "name").split()
        if not pods:
            raise ClusterError(f"TrainJob {job} has no pod; kubectl describe trainjob {job} says why")
        return self.ask("logs", pods[0], "--container", "node")


def _has_ended(train_job: dict[str, Any]) -> bool:
    conditions = train_job.get("status", {}).get("conditions", [])
    return any(said["type"] in ("Complete", "Failed") and said["status"] == "True" for said in conditions)
