"""The processes of a run: how they meet, what they tell each other, and what they do when one of them fails.

Rank 0 leads, the others follow. The leader alone knows the command line and writes; it hands each job to the
followers, who take part in it and wait for the next. They meet in a store, which torchrun keeps across restarts, and
each job has a process group of its own in it, so that nothing of a job that failed is ever taken for the next one's.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import faulthandler
import gc
import json
import os
import re
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from trainer.config import ConfigError, Job, NotFiniteError, RunError, Settings
from trainer.processes.group import Group
from trainer.processes.signals import Interrupts, seconds
from trainer.processes.watchdog import PATIENCE, Watchdog, write_error_file
from trainer.processes.world import (
    GONE,
    IN_VAIN,
    RUN_DIR,
    World,
    folder,
    job_from_plain,
    job_to_plain,
    remote_error,
    world,
)

# torch has no types for them
PrefixStore: Any = dist.PrefixStore  # type: ignore[attr-defined]
TCPStore: Any = dist.TCPStore  # type: ignore[attr-defined]
Store = Any

# What torch, gloo and NCCL say where another process is gone or does not answer.
LOST = re.compile(r"gloo|NCCL|Connection (closed|reset|refused)|Broken pipe|[Tt]imed? ?out|Socket|recvValue", re.DOTALL)
TIMED_OUT = re.compile(r"[Tt]imed? ?out")


class LostError(RunError):
    """Another process is gone, or does not answer."""


class Alone:
    """The processes of a run that has one."""

    world = World(0, 1, 0, 1, "", 0, hosted=False, attempt=0, most_attempts=0)

    def adapted(self, job: Job) -> Job:
        """Return the job unchanged."""
        return job

    @contextlib.contextmanager
    def leading(self, job: Job) -> Iterator[None]:
        """A job of which nobody else has to hear."""
        yield

    def wait_for_followers(self, fingerprint: dict[str, Any], interrupts: Interrupts) -> None:
        """There are none."""

    def remember(self, run_dir: str) -> None:
        """Nobody will ask."""

    @contextlib.contextmanager
    def group(self, device: torch.device, interrupts: Interrupts) -> Iterator[Group]:
        """This process."""
        yield Group()


class Team:
    """The processes of a run that has several, as one of them sees them.

    Args:
        here: who this process is.
        patience: seconds to wait for the others.

    Raises:
        LostError: they do not meet.
    """

    def __init__(self, here: World, patience: float) -> None:
        self.world = here
        try:
            store = TCPStore(
                here.host,
                here.port,
                is_master=not here.hosted and here.rank == 0,
                timeout=timedelta(minutes=5),
                wait_for_workers=False,
            )
        except dist.DistError as error:
            raise LostError(f"rank {here.rank} cannot reach {here.host}:{here.port}, where all meet") from error
        self._memory = PrefixStore("trainer", store)  # outlives this process, where torchrun keeps it
        self._store: Store = self._memory
        self._attempt = self._meet(time.monotonic() + patience)
        self._store = PrefixStore(f"trainer/{self._attempt}", store)
        self._number = -1  # of the job under way
        self._settings: Settings | None = None
        self._blamed = False  # a follower has failed
        self._watch = Watchdog(PrefixStore(f"trainer/{self._attempt}", store.clone()))
        # the group of the last job: torch must not let go of one while a thread of gloo lets go of its last message
        # (the one waits for the other's end, the other for Python)
        self._retired: list[Any] = []
        atexit.register(self._close)

    def _close(self) -> None:
        """Before Python ends."""
        self._watch.stop()
        self._retired.clear()

    def _meet(self, deadline: float) -> str:
        """A name for this attempt, which all its processes have; those of an earlier one may have left their traces.

        Each says hello with a word of its own, the leader welcomes it by that word, and hears of it.
        """
        rank, size = self.world.rank, self.world.size
        if rank > 0:
            word = uuid.uuid4().hex
            self._tell(f"hello/{rank}", word)
            self._wait(f"welcome/{word}", deadline=deadline, what="rank 0")
            name: str = self._read(f"welcome/{word}")
            self._tell(f"{name}/here/{rank}", True)
            return name
        name = f"attempt{self._memory.add('attempts', 1)}"
        missing, welcomed = set(range(1, size)), set[str]()
        while missing:
            if time.monotonic() > deadline:
                raise LostError(f"rank {', '.join(map(str, sorted(missing)))} did not come in time (device.timeout)")
            for other in sorted(missing):
                word = self._read(f"hello/{other}") if self._has(f"hello/{other}") else ""
                if word and word not in welcomed:
                    self._tell(f"welcome/{word}", name)
                    welcomed.add(word)
                if self._has(f"{name}/here/{other}"):
                    missing.remove(other)
            time.sleep(0.02)
        return name

    # What the leader does.

    def adapted(self, job: Job) -> Job:
        """The next job; one that an earlier attempt has begun goes on in its directory.

        Raises:
            ConfigError: the device is for one process.
        """
        if job.settings.device["name"] == "auto" and self.world.size > 1:
            job = job.replace(device=_defaults("ddp"))
        if "processes" not in job.settings.device and self.world.size > 1:
            name = job.settings.device["name"]
            raise ConfigError(
                f"device={name}: is for one process, and torchrun has started {self.world.size}; use device=ddp"
            )
        run_dir = self.noted(f"run_dir/{self._number + 1}")
        if run_dir is not None and job.settings.resume is None:  # else it goes on anyway, as the runs of a sweep do
            job = dataclasses.replace(job.replace(run_dir=run_dir, resume="auto"), fixed_run_dir=True)
        return job

    @contextlib.contextmanager
    def leading(self, job: Job) -> Iterator[None]:
        """A job, of which the followers hear at the beginning and at the end.

        Raises:
            RunError: a follower has failed, in its words.
        """
        self._begin(self._number + 1, job.settings)
        self._tell(self._key("settings"), job_to_plain(job))
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:
            first = self._first_of_all(error)
            if first is error:
                write_error_file("".join(traceback.format_exception(error)))
            raise first from first.__cause__  # the other process's error; this one is only its consequence
        finally:
            with contextlib.suppress(Exception):  # where the place to meet is gone, all are told so by that
                self._tell(self._key("over"), True)

    def wait_for_followers(self, fingerprint: dict[str, Any], interrupts: Interrupts) -> None:
        """Until all have built what the job needs; then they begin, and no signal keeps one from joining the others.

        Raises:
            ConfigError: for one of them the config is wrong, or it sees other data.
            LostError: one does not answer.
        """
        deadline = time.monotonic() + self._timeout()
        problems: dict[str, None] = {}
        for rank in range(1, self.world.size):
            self._wait(self._key(f"ready/{rank}"), self._key("failed"), deadline=deadline, what=f"rank {rank}")
            if not self._has(self._key(f"ready/{rank}")):
                raise LostError("another process has failed")
            answer = self._read(self._key(f"ready/{rank}"))
            problems |= {f"{line} (rank {rank})": None for line in answer.get("problems", ())}
            if answer.get("fingerprint", fingerprint) != fingerprint:
                problems |= {f"dataset: rank {rank} sees other samples than rank 0": None}
        if problems:
            raise ConfigError(*problems)
        interrupts.expect_others()
        self._tell(self._key("go"), True)

    def remember(self, run_dir: str) -> None:
        """Where the job under way writes, for an attempt after this one."""
        self.note(f"run_dir/{self._number}", run_dir)
        place = folder()
        if place is not None:
            (place / RUN_DIR).write_text(run_dir)

    def dismiss(self, code: int, *, final: bool) -> None:
        """There are no more jobs; the followers end with this code, and where it is final, so do later attempts."""
        if code:
            # the first that has failed is the one that torchrun names, to the second
            write_error_file("see what is said above, and the log of the run", seconds_later=2 * self._blamed)
        with contextlib.suppress(LostError):
            if final:
                self.note("ended", code)
            self._number += 1
            self._tell(self._key("settings"), {"code": code})
            deadline = time.monotonic() + PATIENCE / 4
            for rank in range(1, self.world.size):  # torchrun would end them, and report that
                self._wait(self._key(f"bye/{rank}"), deadline=deadline)

    def note(self, name: str, value: str | int) -> None:
        """Something for an attempt after this one."""
        self._memory.set(name, json.dumps(value))

    def noted(self, name: str) -> Any:
        """What an attempt before this one has noted; None where there is none."""
        if self.world.attempt == 0 or not self._memory.check([name]):
            return None
        return json.loads(self._memory.get(name))

    # What a follower does.

    def next_job(self) -> Settings | int:
        """The leader's next job, or the code to end with."""
        self._number += 1
        self._wait(self._key("settings"))
        plain = self._read(self._key("settings"))
        if "code" in plain:
            if plain["code"]:
                write_error_file("ended with rank 0", seconds_later=4)
            self._tell(self._key(f"bye/{self.world.rank}"), True)
            return int(plain["code"])
        settings = job_from_plain(plain).settings
        self._begin(self._number, settings)
        return settings

    def ready(self, fingerprint: dict[str, Any], interrupts: Interrupts, problems: Sequence[str] = ()) -> bool:
        """Tell the leader, and wait until all are; says whether the job begins."""
        interrupts.expect_others()
        answer = {"problems": list(problems)} if problems else {"fingerprint": fingerprint}
        self._tell(self._key(f"ready/{self.world.rank}"), answer)
        self._wait(self._key("go"), self._key("over"))
        return self._has(self._key("go")) and not problems

    def fail(self, message: str, error: BaseException) -> None:
        """Tell everybody that this process has failed, unless that is because another one has.

        Raises:
            LostError: the others are gone, or do not answer, and nobody says why.
        """
        if _is_lost(error):
            try:
                self._wait(self._key("over"), self._key("failed"), deadline=time.monotonic() + PATIENCE)
            except LostError:
                message = self._in_vain(error)
                write_error_file(message)
                self._tell_failure(message, error)
                raise
            return
        write_error_file("".join(traceback.format_exception(error)))
        self._tell_failure(message, error)

    def _tell_failure(self, message: str, error: BaseException) -> None:
        text = "".join(traceback.format_exception(error))
        with contextlib.suppress(LostError), _reached():
            if self._store.add(self._key("failures"), 1) == 1:
                self._tell(self._key("failed"), {"rank": self.world.rank, "message": message, "traceback": text})

    def until_over(self) -> None:
        """Wait for the end of the job.

        Raises:
            LostError: the leader does not say that it is over.
        """
        failed = self._has(self._key("failed"))
        deadline = time.monotonic() + (3 * PATIENCE if failed else self._timeout())
        self._wait(self._key("over"), deadline=deadline, what="rank 0")

    # What both do.

    @contextlib.contextmanager
    def group(self, device: torch.device, interrupts: Interrupts) -> Iterator[Group]:
        """The processes, connected for one job."""
        here = self.world
        self._watch.key = self._key("over")
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=PrefixStore(self._key("group"), self._store),
            rank=here.rank,
            world_size=here.size,
            timeout=timedelta(seconds=self._timeout()),
        )
        self._retired[:] = [dist.group.WORLD]
        group = Group(here.rank, here.size)
        try:
            with interrupts.together(group.agree):
                try:
                    yield group
                except NotFiniteError:  # all have seen it, and nobody waits
                    raise
                except Exception as error:
                    self._leave(error, device)
                    if group.leads:  # here a SIGTERM, which all get where one has failed, does not hide the failure
                        first = self._first_of_all(error)
                        raise first from first.__cause__
                    raise
                finally:
                    if dist.is_initialized() and not self._watch.ends:
                        dist.destroy_process_group()
        finally:
            self._watch.key = None

    def _leave(self, error: Exception, device: torch.device) -> None:
        """Close the connections of a job that has failed, from which the others hear of it at once."""
        if device.type == "cuda":  # NCCL would wait for the others, so the process has to end
            self._watch.end_soon()
            return
        self._retired.clear()
        traceback.clear_frames(error.__traceback__)  # what they hold, holds the connections
        gc.collect()
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            # a message under way to a process that hangs would be waited for, with all of Python
            faulthandler.dump_traceback_later(PATIENCE, exit=True, file=nowhere)
            time.sleep(0.05)
            dist.destroy_process_group()
            faulthandler.cancel_dump_traceback_later()

    def _begin(self, number: int, settings: Settings) -> None:
        self._number, self._settings = number, settings
        self._watch.limit = self._timeout() + PATIENCE

    def _first_of_all(self, error: Exception) -> Exception:
        """The error that began it: this one, or that of the follower that was first to fail."""
        if _is_lost(error):
            with contextlib.suppress(LostError):
                self._wait(self._key("failed"), deadline=time.monotonic() + PATIENCE / 4)
        with contextlib.suppress(LostError):
            if self._has(self._key("failed")):
                failure, self._blamed = self._read(self._key("failed")), True
                return remote_error(f"rank {failure['rank']}: {failure['message']}", failure["traceback"])
        if _is_lost(error):
            return remote_error(f"rank {self.world.rank}: {self._in_vain(error)}", str(error))
        return error

    def _in_vain(self, error: BaseException) -> str:
        """What is known of a process that is gone or does not answer."""
        if TIMED_OUT.search(str(error)):
            return f"waited {self._timeout():g} s for another process (device.timeout) {IN_VAIN}"
        return GONE

    def _timeout(self) -> float:
        device = {} if self._settings is None else self._settings.device
        return seconds(device.get("timeout", "30m"))

    def _key(self, name: str) -> str:
        return f"{self._number}/{name}"

    def _tell(self, key: str, value: Any) -> None:
        with _reached():
            self._store.set(key, json.dumps(value))

    def _has(self, key: str) -> bool:
        with _reached():
            found: bool = self._store.check([key])
        return found

    def _read(self, key: str) -> Any:
        with _reached():
            return json.loads(self._store.get(key))

    def _wait(self, *keys: str, deadline: float | None = None, what: str = "another process") -> None:
        """Until one of the keys is there. Signals are heard.

        Raises:
            LostError: the time is over, or the place to meet is gone.
        """
        pause = 0.005
        while True:
            if any(self._has(key) for key in keys):
                return
            if deadline is not None and time.monotonic() > deadline:
                raise LostError(f"waited for {what} in vain, timed out")
            time.sleep(pause)
            pause = min(2 * pause, 0.1)


_crew: list[Alone | Team] = []


def processes(patience: float = 1800.0) -> Alone | Team:
    """The processes of this run; they meet when this is first asked.

    Args:
        patience: seconds to wait for the others then.

    Raises:
        LostError: they do not meet.
    """
    if not _crew:
        here = world()
        try:
            _crew.append(Alone() if here is None else Team(here, patience))
        except BaseException:
            _crew.append(Alone())  # so that nobody waits once more
            raise
    return _crew[0]


def have_met() -> bool:
    """Whether the processes of this run know each other, or it is clear that they will not."""
    return bool(_crew)


@contextlib.contextmanager
def _reached() -> Iterator[None]:
    """Raises LostError where the store does not answer."""
    try:
        yield
    except dist.DistError as error:
        raise LostError("the place where all processes meet is gone") from error


def _is_lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone, so that the reason is elsewhere."""
    if isinstance(error, LostError | dist.DistError):
        return True
    return isinstance(error, RuntimeError) and bool(LOST.search(str(error)))


def _defaults(name: str) -> dict[str, Any]:
    """The keys of a device as its YAML has them."""
    from trainer.config import yaml_file

    keys: dict[str, Any] = yaml_file.load(yaml_file.config_dir() / "device" / f"{name}.yaml")
    return keys
