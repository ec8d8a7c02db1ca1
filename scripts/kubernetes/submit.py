#!/usr/bin/env python3
"""Run suites on a Kubernetes cluster with Kubeflow Trainer, wait, and bring the records back.

scripts/kubernetes/submit.py --image IMAGE --out DIR [--nodes N] [--gpus N] ... BLOCK SUITE.toml ... [flags of bench]

Of a.toml come back DIR/a.jsonl, the record, and DIR/a.log, what the ranks said. Exit codes: 0 every suite is done,
1 one failed, 2 bad input, nothing was measured. Needs Python 3.10 or later and kubectl, nothing else.
"""

import json
import sys
from pathlib import Path

from cluster import Cluster, ClusterError
from manifest import RUN_LABEL, manifest
from record_of_log import LogError, read_log
from request import BadInput, Request, read_flags, read_request


def main() -> int:
    flags = read_flags()
    try:
        request = read_request(flags)
        if flags.render:
            print(json.dumps(manifest(request), indent=2))
            return 0
        cluster = Cluster(flags.namespace)
        _create(cluster, request, flags.out)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    remedy = f"kubectl delete trainjob,configmap --selector {RUN_LABEL}={request.name}"
    print(f"{request.name}: {len(request.suites)} suites; end and remove them with {remedy}", flush=True)
    failed = 0
    for suite in request.suites:
        reason = _bring_back(cluster, request.job(suite), flags.out / suite)
        if reason is None:
            print(f"{suite}: done, {flags.out / suite}.jsonl", flush=True)
        else:
            failed = 1
            print(f"error: {suite}: {reason}", file=sys.stderr, flush=True)
    return failed


def _create(cluster: Cluster, request: Request, out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be made ({error.strerror}); name another folder") from error
    try:
        cluster.ask("create", "--filename", "-", given=json.dumps(manifest(request)))
    except FileNotFoundError as error:
        raise BadInput("kubectl: is not on PATH; install it, or create what --render prints by other means") from error
    except ClusterError as error:
        raise BadInput(f"{error}; nothing was measured") from error


def _bring_back(cluster: Cluster, job: str, to: Path) -> str | None:
    """Wait for a TrainJob and write its record and log; why it failed, if it did."""
    kept = to.with_name(f"{to.name}.log")
    try:
        cluster.wait(job)
        log = cluster.log_of_first_node(job)
        kept.write_text(log)
        brought = read_log(log)
    except ClusterError as error:
        return str(error)
    except LogError as error:
        return f"the log {error}; see {kept}"
    kept.write_text(brought.said)
    if brought.record:
        to.with_name(f"{to.name}.jsonl").write_bytes(brought.record)
        if brought.exit_code == 0:
            return None
    said = (line.removeprefix("error: ") for line in brought.said.splitlines() if line.startswith("error: "))
    return f"{next(said, f'ended with {brought.exit_code}, {len(brought.record)} bytes of record')}; see {kept}"


if __name__ == "__main__":
    sys.exit(main())
