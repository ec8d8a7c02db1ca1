#!/usr/bin/env python3
"""The record in a pod's log, where pod.sh put it: kubectl logs POD | scripts/kubernetes/record_of_log.py a.jsonl

A pod that has ended keeps its log, while its files are gone.
"""

import base64
import binascii
import gzip
import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BEGINS: Final = "tpbench: record begins"
ENDS: Final = re.compile(r"tpbench: record ends, sha256 ([0-9a-f]{64}), exit code (\d+)")


class LogError(Exception):
    """The log holds no whole record."""


@dataclass(frozen=True)
class Brought:
    """What a pod's log tells of its suite."""

    record: bytes
    """Empty when the suite failed before its first line."""
    said: str
    """What the ranks said."""
    exit_code: int


def read_log(text: str) -> Brought:
    """The last record of a log; LogError when it is not there whole."""
    lines = text.splitlines()
    if BEGINS not in lines:
        raise LogError("holds no record: its ranks are not done, or the pod was killed before it could print it")
    begin = len(lines) - 1 - lines[::-1].index(BEGINS)
    end = next((i for i in range(begin, len(lines)) if ENDS.fullmatch(lines[i])), None)
    if end is None:
        raise LogError("stops within its record: the pod was killed while it printed it")
    found = ENDS.fullmatch(lines[end])
    assert found is not None, "it is how the end was found"
    try:
        record = gzip.decompress(base64.b64decode("".join(lines[begin + 1 : end]), validate=True))
    except (binascii.Error, EOFError, OSError) as error:
        raise LogError(f"holds a damaged record ({error})") from error
    if hashlib.sha256(record).hexdigest() != found[1]:
        raise LogError("holds a damaged record (its checksum differs)")
    return Brought(record=record, said="\n".join([*lines[:begin], ""]), exit_code=int(found[2]))


def main() -> int:
    if len(sys.argv) != 2:
        print("error: which file is the record to be written to? Name one", file=sys.stderr)
        return 2
    try:
        brought = read_log(sys.stdin.read())
    except LogError as error:
        print(f"error: the log {error}", file=sys.stderr)
        return 1
    Path(sys.argv[1]).write_bytes(brought.record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
