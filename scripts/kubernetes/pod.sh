#!/usr/bin/env bash
# What every pod of a TrainJob runs: the ranks of its node and then, on the first node, the record into the log.
# usage: pod.sh BLOCK SUITE.toml [flags of bench/BLOCK.py]
# How many ranks and nodes there are Kubeflow Trainer tells torchrun itself (PET_NNODES, PET_NODE_RANK, ...).
# It ends with 0 whatever became of the suite: Kubernetes would start a failed pod over and over, measure again, and
# remove the log in the end. How the suite ended stands in the last line, which submit.py reads.
set -euo pipefail
cd "$(dirname "$0")/../.."
block="$1" suite="$2"
shift 2
export PATH="$PWD/.venv/bin:$PATH" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
record="$(mktemp -d)/record.jsonl"

torchrun "bench/$block.py" --suite "$suite" --out "$record" "$@" &
ranks=$!
# Of a pod only this process is told that it must end; the ranks close their record then.
trap 'kill -TERM "$ranks" 2>/dev/null || true' TERM
code=0
wait "$ranks" || code=$?
# A signal ends the waiting, not the ranks.
while kill -0 "$ranks" 2>/dev/null; do wait "$ranks" || code=$?; done

[ "${PET_NODE_RANK:-0}" = 0 ] || exit 0
[ -f "$record" ] || : >"$record"
# Packed, since a log is cut off at some megabytes, and in short lines, since long ones come apart.
echo "tpbench: record begins"
gzip -c "$record" | base64
echo "tpbench: record ends, sha256 $(sha256sum "$record" | cut -d' ' -f1), exit code $code"
