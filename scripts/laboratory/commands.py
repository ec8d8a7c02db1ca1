"""The command on every host at once: what it prints, which host fails first, and that all of them end."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Final

from flags import Lab
from interrupts import Interrupts
from network import Host, end_processes, switch_link

_POLL_S: Final = 0.05
# Between asking the hosts to end and ending them.
_TERM_S: Final = 10.0

Process = subprocess.Popen[bytes]


def run_on(hosts: Sequence[Host], lab: Lab, environs: Sequence[Mapping[str, str]], interrupts: Interrupts) -> int:
    """Run the command on all hosts until the last has ended; 0, or the exit code of the first that failed.

    The first host has our stdin, stdout and stderr; the lines of the others are passed on behind their names.
    """
    readers: list[threading.Thread] = []
    try:
        processes: list[Process] = []
        for host, environ in zip(hosts, environs, strict=True):
            process = _start(host, lab.command, environ)
            processes.append(process)
            readers += _pass_on(host, process)
        return _Watch(hosts, processes, lab, interrupts).until_all_ended()
    finally:
        # What a host left behind would hold its namespace, and the pipes that the readers wait at.
        end_processes(hosts)
        for reader in readers:
            reader.join()


def _start(host: Host, command: Sequence[str], environ: Mapping[str, str]) -> Process:
    named = ("sh", "-c", 'hostname "$0" && exec "$@"', host.name, *command)
    first = host.index == 0
    return subprocess.Popen(
        ("ip", "netns", "exec", host.namespace, "unshare", "--uts", *named),
        env=environ,
        stdin=None if first else subprocess.DEVNULL,
        stdout=None if first else subprocess.PIPE,
        stderr=None if first else subprocess.PIPE,
        start_new_session=True,
    )


def _pass_on(host: Host, process: Process) -> list[threading.Thread]:
    """One thread a pipe, each started."""
    readers = []
    for source, target in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
        if source is not None:
            prefix = f"{host.name}: ".encode()
            readers.append(threading.Thread(target=_copy_lines, args=(source, target.fileno(), prefix), daemon=True))
            readers[-1].start()
    return readers


def _copy_lines(source: IO[bytes], target: int, prefix: bytes) -> None:
    for line in source:
        rest = prefix + line.removesuffix(b"\n") + b"\n"
        # A reader of ours that has seen enough must not stop the host: its pipe is drained all the same.
        with suppress(OSError):
            while rest:
                rest = rest[os.write(target, rest) :]


class _Watch:
    """Waits for the hosts; a failure or a signal gives them `grace_s`, then SIGTERM, then SIGKILL."""

    def __init__(self, hosts: Sequence[Host], processes: Sequence[Process], lab: Lab, interrupts: Interrupts) -> None:
        self._hosts = hosts
        self._running = dict(zip(hosts, processes, strict=True))
        self._grace_s = lab.grace_s
        self._interrupts = interrupts
        self._code = 0
        self._next_s = math.inf
        self._next_signal = signal.SIGTERM
        start_s = time.monotonic()
        self._switchings = [(start_s + each.after_s, hosts[each.host], each.state) for each in lab.switchings]

    def until_all_ended(self) -> int:
        """0, or the exit code of the first that failed."""
        while self._running:
            time.sleep(_POLL_S)
            now_s = time.monotonic()
            self._collect(now_s)
            for number in self._interrupts.take():
                self._send(number)
                self._hurry(now_s)
            while self._switchings and now_s >= self._switchings[0][0]:
                _, host, state = self._switchings.pop(0)
                switch_link(host, state)
                _tell(f"{host.name}'s link is {state}")
            if now_s >= self._next_s:
                self._send(self._next_signal)
                self._next_s, self._next_signal = now_s + _TERM_S, signal.SIGKILL
        return self._code

    def _collect(self, now_s: float) -> None:
        ended = {host: code for host, process in self._running.items() if (code := process.poll()) is not None}
        for host, code in ended.items():
            del self._running[host]
            if code and not self._code:
                # As a shell has it: 128 and the number of the signal.
                self._code = code if code > 0 else 128 - code
                self._hurry(now_s)
                if self._running:
                    _tell(f"{host.name} ended with exit code {self._code}; the others have {self._grace_s:g} s to end")

    def _hurry(self, now_s: float) -> None:
        self._next_s = min(self._next_s, now_s + self._grace_s)

    def _send(self, number: int) -> None:
        for process in self._running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)


def _tell(text: str) -> None:
    print(f"netlab: {text}", file=sys.stderr, flush=True)
