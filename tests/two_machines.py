"""Train over two network namespaces of this machine, joined by a virtual cable like two machines; then cut the cable.

    python -m tests.two_machines

Each machine has a network and a folder of its own, and one process, which its torchrun has started. What they train
together has to be what one process trains; only the machine of rank 0 may have a run directory. Then a longer run is
cut in two: both processes have to end by themselves, within ``--timeout`` seconds, with the reason in summary.json,
and the same command goes on from the last checkpoint. The torchrun of the machine where they do not meet is not asked
to end before the cable is whole again: of torch 2.13 it waits for the other one until TCP gives up, 15 minutes.

Needs Linux, root and ``ip`` (iproute2).
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from tests.shell import CLI, TRAIN, Processes, points, run, started, state, summary

CABLE = "cable"  # the network interface, on both machines
PORT = 29500
WORDS = ("logger=none", "log_every=1", "batch_size=67", "seed=3", "run_dir=run")
SHORT = ("max_steps=42", "epochs=3")
LONG = ("device=ddp", "device.timeout=10s", "checkpoint.every_steps=10", "resume=auto")
CUT_AFTER = 25  # lines of metrics.jsonl, one for each step
RELATIVE, WEIGHTS = 1e-5, 1e-5  # float32 sums in another order
PATIENCE = 120.0  # seconds for what takes a few


@dataclass(frozen=True)
class Machine:
    """A network namespace and a folder.

    Args:
        name: of the namespace.
        number: 1 is where all meet.
        folder: where its commands run.
    """

    name: str
    number: int
    folder: Path

    @property
    def address(self) -> str:
        """The address of the machine's end of the cable."""
        return f"10.77.0.{self.number}"

    @property
    def run_dir(self) -> Path:
        """The run directory of the machine's commands, if they write one."""
        return self.folder / "run"

    def ip(self, *words: str) -> None:
        """Run a command of iproute2 in the namespace."""
        ip("-n", self.name, *words)

    def torchrun(self, meeting: str, words: Sequence[str]) -> list[str]:
        """Return the command of this machine, which differs from that of the other only in the machine's address."""
        return [
            *("ip", "netns", "exec", self.name, sys.executable, "-m", "torch.distributed.run"),
            *("--nnodes=2", "--nproc_per_node=1", "--max_restarts=0", "--rdzv_backend=c10d", f"--rdzv_id={meeting}"),
            *(f"--rdzv_endpoint=10.77.0.1:{PORT}", f"--rdzv_conf=is_host={int(self.number == 1)}"),
            *(f"--local_addr={self.address}", CLI, *words),
        ]


class Ending(NamedTuple):
    """How and when a command ended."""

    at: float
    code: int
    out: str
    errors: str


@dataclass(frozen=True)
class Running:
    """The same command, running on each machine."""

    processes: list[Processes]
    endings: list[Future[Ending]]

    def finish(self) -> list[Ending]:
        """Wait for both commands.

        Raises:
            AssertionError: one does not end, or leaves a process behind.
        """
        found = []
        for number, (processes, ending) in enumerate(zip(self.processes, self.endings, strict=True), 1):
            try:
                found.append(ending.result())
            except subprocess.TimeoutExpired as error:
                output = b"".join(part for part in (error.stdout, error.stderr) if part).decode(errors="replace")
                left = "\n".join(commands(processes.all()))
                raise AssertionError(f"machine {number} does not end:\n{left}\n{output[-3000:]}") from None
        for processes in self.processes:
            processes.until_none_is_left()
        return found


def ip(*words: str) -> None:
    """Run a command of iproute2."""
    subprocess.run(["ip", *words], check=True)


def missing() -> str | None:
    """Return what this machine lacks to contain two others, or an empty text."""
    if shutil.which("ip") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "needs Linux, root and ip (iproute2)"
    name = f"trainer-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return f"no network namespace can be made: {made.stderr.strip()}" if made.returncode else None


@contextmanager
def joined(folder: Path) -> Iterator[tuple[Machine, Machine]]:
    """Provide two machines with a cable between them, and remove them afterwards."""
    first, second = (Machine(f"trainer-{os.getpid()}-{number}", number, folder / str(number)) for number in (1, 2))
    with ExitStack() as stack:
        for machine in (first, second):
            machine.folder.mkdir()
            ip("netns", "add", machine.name)
            stack.callback(ip, "netns", "del", machine.name)
        ip(*f"link add {CABLE} netns {first.name} type veth peer name {CABLE} netns {second.name}".split())
        for machine in (first, second):
            machine.ip("address", "add", f"{machine.address}/24", "dev", CABLE)
            machine.ip("link", "set", "lo", "up")
            machine.ip("link", "set", CABLE, "up")
        yield first, second


@contextmanager
def running(machines: Sequence[Machine], words: Sequence[str], timeout: float = PATIENCE) -> Iterator[Running]:
    """Run the same command on both machines; no process outlives the block."""
    meeting = uuid.uuid4().hex
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        begun = [
            stack.enter_context(started(machine.torchrun(meeting, words), machine.folder, GLOO_SOCKET_IFNAME=CABLE))
            for machine in machines
        ]
        endings = [pool.submit(ending_of, processes, timeout) for processes in begun]
        try:
            yield Running(begun, endings)
        finally:
            for processes in begun:
                for number in processes.all():
                    with suppress(ProcessLookupError):
                        os.kill(number, signal.SIGKILL)
            wait(endings)


def ending_of(processes: Processes, timeout: float) -> Ending:
    """Read the output of a command until its end, because a full pipe would stop the command."""
    code, out, errors = processes.finish(timeout)
    return Ending(time.monotonic(), code, out, errors)


def commands(numbers: Sequence[int]) -> list[str]:
    """Return the command lines of processes."""
    found = []
    for number in numbers:
        with suppress(OSError):
            words = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found.append(f"{number} {words}")
    return found


def length(path: Path) -> int:
    """Count the lines of a file, which need not exist yet."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_lines(machine: Machine, at_least: int, both: Running) -> None:
    """Wait until a number of steps is logged.

    Raises:
        AssertionError: a command has ended before, or it takes too long.
    """
    deadline = time.monotonic() + PATIENCE
    while length(machine.run_dir / "metrics.jsonl") < at_least:
        for ending in both.endings:
            assert not ending.done(), f"ended too early: {ending.result()}"
        assert time.monotonic() < deadline, f"no {at_least} lines in {PATIENCE:g} s"
        time.sleep(0.02)


def alone(folder: Path, words: Sequence[str]) -> Path:
    """Do the run with one process and the same words."""
    folder.mkdir()
    code, _, errors = run([*TRAIN, *words], folder)
    assert code == 0, errors
    return folder / "run"


def compare(one: Path, two: Path) -> str:
    """Compare the training of two machines with that of one process, and return the numbers."""
    largest = 0.0
    for name in ("train/loss", "val/loss", "test/loss", "gradient_norm"):
        wanted, got = points(one, name), points(two, name)
        assert len(wanted) == len(got) > 0, f"{name}: {len(wanted)} points of one process, {len(got)} of two machines"
        for number, (left, right) in enumerate(zip(wanted, got, strict=True)):
            largest = max(largest, abs(left - right) / abs(left))
            assert math.isclose(left, right, rel_tol=RELATIVE), f"{name}, point {number}: {left} and {right}"
    for name in ("val/accuracy", "test/accuracy"):
        assert points(one, name) == points(two, name), f"{name}: {points(one, name)} and {points(two, name)}"
    first, second = state(one), state(two)
    assert first["step"] == second["step"], f"steps: {first['step']} and {second['step']}"
    assert first["model"].keys() == second["model"].keys()
    differences = [(first["model"][name] - second["model"][name]).abs().max() for name in first["model"]]
    weight = float(torch.stack(differences).max())
    assert weight <= WEIGHTS, f"weights differ by {weight:.1e}"
    accuracy = points(two, "test/accuracy")[-1]
    return (
        f"{first['step']} steps; test accuracy {accuracy:.4f} of both; curves differ by {largest:.1e} of the value, "
        f"weights by {weight:.1e}"
    )


def check_one_run(machines: tuple[Machine, Machine]) -> None:
    """Check that only the first machine has a run directory, with one of everything."""
    first, second = machines
    assert list(second.folder.iterdir()) == [], f"machine 2 has written {list(second.folder.iterdir())}"
    assert list(first.folder.iterdir()) == [first.run_dir], f"machine 1 has written {list(first.folder.iterdir())}"
    names = {path.name for path in first.run_dir.iterdir()}
    expected = {"checkpoints", "config.yaml", "environment.json", "metrics.jsonl", "overrides.yaml", "summary.json"}
    assert names == expected | {"train.log"}, names


def same_result(folder: Path, machines: tuple[Machine, Machine]) -> None:
    """Compare a whole run on two machines with a run of one process."""
    words = (*WORDS, *SHORT)
    one = alone(folder / "alone", words)
    begun = time.monotonic()
    with running(machines, words) as both:
        endings = both.finish()
    assert [ending.code for ending in endings] == [0, 0], endings
    assert "device   ddp, 2 processes, cpu (1 thread), fp32" in endings[0].out, endings[0].out
    assert endings[1].out == "", f"machine 2 says {endings[1].out}"
    check_one_run(machines)
    seconds = max(ending.at for ending in endings) - begun
    print(f"same     {compare(one, machines[0].run_dir)}; {seconds:.1f} s", flush=True)


def cut_in_two(machines: tuple[Machine, Machine], timeout: float) -> None:
    """Cut the cable in the middle of a run, and join it after the run; the run directory says why the run ended."""
    first, second = machines
    with running(machines, (*WORDS, *LONG, "epochs=1000"), PATIENCE + 3 * timeout) as both:
        wait_for_lines(first, CUT_AFTER, both)
        follower = both.processes[1].rank(1)
        assert follower is not None, "rank 1 is not on machine 2"
        second.ip("link", "set", CABLE, "down")
        cut = time.monotonic()
        wait([both.endings[0]], timeout)
        lead = "\n".join(commands(both.processes[0].all()))
        assert both.endings[0].done(), f"machine 1 still runs, {timeout:g} s after the cut:\n{lead}"
        while follower in both.processes[1].all():
            assert time.monotonic() < cut + timeout, f"rank 1, {follower}, still runs, {timeout:g} s after the cut"
            time.sleep(0.05)
        gone = time.monotonic()
        second.ip("link", "set", CABLE, "up")
        endings = both.finish()
    codes = [ending.code for ending in endings]
    assert 0 not in codes, f"exit codes {codes}"
    assert "another process" in endings[0].errors, endings[0].errors
    one, two = (ending.at - cut for ending in endings)
    print(
        f"cut      machine 1 ended after {one:.1f} s, rank 1 after {gone - cut:.1f} s, and the torchrun of machine 2 "
        f"after {two:.1f} s, {max(0, two - gone + cut):.1f} s of them joined again; exit codes {codes}; nothing is left"
    )
    check_one_run(machines)
    found = summary(first.run_dir)
    assert found["state"] == "failed" and "another process" in found["reason"], found
    print(f"reason   {found['reason']}")
    step, lines = state(first.run_dir)["step"], length(first.run_dir / "metrics.jsonl")
    print(f"kept     the checkpoint of step {step}, and {lines} lines of metrics.jsonl", flush=True)


def go_on(folder: Path, machines: tuple[Machine, Machine]) -> None:
    """Repeat the command, and check that the run ends as if nothing had happened."""
    first = machines[0]
    step, done = state(first.run_dir)["step"], length(first.run_dir / "metrics.jsonl")
    epochs = f"epochs={done // 20 + 2}"  # of 20 steps each
    begun = time.monotonic()
    with running(machines, (*WORDS, *LONG, epochs)) as both:
        endings = both.finish()
    assert [ending.code for ending in endings] == [0, 0], endings
    line = next((line for line in endings[0].out.splitlines() if line.startswith("resume   after step")), "")
    assert line.startswith(f"resume   after step {step},"), f"{line or 'no resume'}, the checkpoint is of step {step}"
    assert line in (first.run_dir / "train.log").read_text()
    assert summary(first.run_dir)["state"] == "finished", summary(first.run_dir)
    check_one_run(machines)
    seconds = max(ending.at for ending in endings) - begun
    compared = compare(alone(folder / "undisturbed", (*WORDS, epochs)), first.run_dir)
    print(f"goes on  {line.removeprefix('resume   ')}; {compared}; {seconds:.1f} s", flush=True)


def show(folder: Path, timeout: float) -> None:
    """Do all checks, and print a line for each.

    Raises:
        AssertionError: something is wrong.
    """
    for part in ("whole", "cut"):
        (folder / part).mkdir()
    with joined(folder / "whole") as machines:
        print(f"machines {machines[0].name} and {machines[1].name}, joined", flush=True)
        same_result(folder, machines)
    with joined(folder / "cut") as machines:
        cut_in_two(machines, timeout)
        go_on(folder, machines)


def main() -> None:
    """End with code 0, or at the first failed check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds from the cut to the end of both processes")
    options = parser.parse_args()
    reason = missing()
    if reason is not None:
        parser.error(reason)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is taken down again
    try:
        with tempfile.TemporaryDirectory(prefix="two-machines-") as name:
            show(Path(name), options.timeout)
    except AssertionError as error:
        sys.exit(f"wrong    {error}")


if __name__ == "__main__":
    main()
