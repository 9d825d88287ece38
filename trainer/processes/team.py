"""The processes of a run: the messages between the leader and its followers before, during and after a job.

Rank 0 is the leader, all other ranks are followers. Only the leader reads the command line and writes files; it
announces each job to the followers, which take part in the job and wait for the next one. The messages are in a store,
which torchrun keeps across restarts. Each job has its own process group, so that no message of a failed job is taken
for a message of the next job.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import faulthandler
import gc
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from trainer.config import ConfigError, Job, NotFiniteError, Settings, yaml_file
from trainer.processes.failures import describe_loss, is_lost, tell_failure, told_failure
from trainer.processes.group import Group
from trainer.processes.signals import Interrupts, seconds
from trainer.processes.store import LostError, PrefixStore, Store, connect, meet
from trainer.processes.watchdog import PATIENCE, Watchdog, write_error_file
from trainer.processes.world import (
    RUN_DIR,
    World,
    current_world,
    job_folder,
    job_from_plain,
    job_to_plain,
    remote_error,
)


class Team:
    """The processes of a run. This base class is a team of one process, whose methods do nothing."""

    world = World(0, 1, 0, 1, "", 0, hosted=False, attempt=0, most_attempts=0)

    def with_world(self, job: Job) -> Job:
        """Return the job, adapted to the processes. A single process changes nothing."""
        return job

    @contextlib.contextmanager
    def announced(self, job: Job) -> Iterator[None]:
        """Announce the beginning and the end of a job to the followers. A no-op for a single process."""
        yield

    def wait_for_followers(self, fingerprint: dict[str, Any], interrupts: Interrupts) -> None:
        """Wait until all followers are ready for the job. A no-op for a single process."""

    def store_run_dir(self, run_dir: str) -> None:
        """Save the run directory of the job for a later attempt. A no-op for a single process."""

    @contextlib.contextmanager
    def join_group(self, device: torch.device, interrupts: Interrupts) -> Iterator[Group]:
        """Connect the processes for one job. A single process is a group of its own."""
        yield Group()


class _TeamMember(Team):
    """One of several processes; the constructor waits until all of them have connected.

    Args:
        world: the rank of this process, the world size and the address of the store.
        patience: seconds to wait for the other processes.

    Raises:
        LostError: a process does not connect in time.
    """

    def __init__(self, world: World, patience: float) -> None:
        self.world = world
        store = connect(world)
        self._notes = Store(PrefixStore("trainer", store))  # outlives this process if torchrun hosts the store
        attempt = meet(world, self._notes, patience)
        self._attempt = self._notes.below(attempt)
        self._number = -1  # the number of the current job
        self._timeout = seconds("30m")
        self._watchdog = Watchdog(PrefixStore(f"trainer/{attempt}", store.clone()))
        # Keeps the process group of the last job alive. If torch freed a group while a thread of gloo frees the last
        # message of the group, the main thread would wait for this thread, and this thread for Python's GIL.
        self._retired_groups: list[Any] = []
        atexit.register(self._close)

    def _close(self) -> None:
        self._watchdog.stop()
        self._retired_groups.clear()

    @property
    def _job(self) -> Store:
        """The store of the current job."""
        return self._attempt.below(str(self._number))

    def _begin(self, settings: Settings) -> None:
        self._timeout = seconds(settings.device.get("timeout", "30m"))
        self._watchdog.limit = self._timeout + PATIENCE

    @contextlib.contextmanager
    def join_group(self, device: torch.device, interrupts: Interrupts) -> Iterator[Group]:
        """Connect the processes for one job; an error closes the connections, which the other processes notice."""
        self._watchdog.key = f"{self._number}/over"
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=self._job.below("group").torch_store,
            rank=self.world.rank,
            world_size=self.world.size,
            timeout=timedelta(seconds=self._timeout),
        )
        self._retired_groups[:] = [dist.group.WORLD]
        group = Group(self.world.rank, self.world.size)
        try:
            with interrupts.together(group.agree_on_signal):
                try:
                    yield group
                except NotFiniteError:  # every process raises this error, so none waits for another
                    raise
                except Exception as error:
                    self._disconnect(error, device)
                    self._raise_cause(error)  # within together(), so that a SIGTERM does not hide the cause
                    raise
                finally:
                    if dist.is_initialized() and not self._watchdog.ends:
                        dist.destroy_process_group()
        finally:
            self._watchdog.key = None

    def _disconnect(self, error: Exception, device: torch.device) -> None:
        if device.type == "cuda":  # NCCL would wait for the other processes, so this process has to end
            self._watchdog.end_soon()
            return
        self._retired_groups.clear()
        traceback.clear_frames(error.__traceback__)  # objects in the frames keep the connections open
        gc.collect()
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            # exit if destroy_process_group hangs: it waits, holding the GIL, for messages to processes that hang
            faulthandler.dump_traceback_later(PATIENCE, exit=True, file=nowhere)
            time.sleep(0.05)
            dist.destroy_process_group()
            faulthandler.cancel_dump_traceback_later()

    def _raise_cause(self, error: Exception) -> None:
        """Raise the failure of another process that has caused ``error``, if any. Only the leader overrides this."""


class Leader(_TeamMember):
    """Rank 0 of several processes."""

    def __init__(self, world: World, patience: float) -> None:
        super().__init__(world, patience)
        self._follower_failed = False  # whether a follower has failed in any job

    def with_world(self, job: Job) -> Job:
        """Return the next job, adapted to the processes; a job that an earlier attempt began is resumed.

        Raises:
            ConfigError: the device supports only one process, and torchrun has started several.
        """
        if job.settings.device["name"] == "auto" and self.world.size > 1:
            job = job.replace(device=yaml_file.load(yaml_file.config_dir() / "device" / "ddp.yaml"))
        if "processes" not in job.settings.device and self.world.size > 1:
            name = job.settings.device["name"]
            raise ConfigError(
                f"device={name}: is for one process, and torchrun has started {self.world.size}; use device=ddp"
            )
        run_dir = self.read_note(f"run_dir/{self._number + 1}")
        if run_dir is not None and job.settings.resume is None:  # a sweep resumes its runs itself
            job = dataclasses.replace(job.replace(run_dir=run_dir, resume="auto"), fixed_run_dir=True)
        return job

    @contextlib.contextmanager
    def announced(self, job: Job) -> Iterator[None]:
        """Announce the beginning and the end of a job to the followers.

        Raises:
            RunError: a follower has failed; the message is the follower's.
        """
        self._number += 1
        self._begin(job.settings)
        self._job.set("settings", job_to_plain(job))
        try:
            yield
        except ConfigError:
            raise
        except Exception as error:
            self._raise_cause(error)
            write_error_file("".join(traceback.format_exception(error)))
            raise
        finally:
            with contextlib.suppress(Exception):  # without the store, every process notices the end by itself
                self._job.set("over", True)

    def wait_for_followers(self, fingerprint: dict[str, Any], interrupts: Interrupts) -> None:
        """Wait until all followers have built their parts of the job, then tell them to begin.

        Afterwards, signals are deferred until the processes have joined their process group.

        Raises:
            ConfigError: a follower has found a mistake in the config, or sees different data.
            LostError: a follower has failed or does not answer in time.
        """
        deadline = time.monotonic() + self._timeout
        problems: dict[str, None] = {}
        for rank in range(1, self.world.size):
            self._job.wait(f"ready/{rank}", "failed", deadline=deadline, what=f"rank {rank}")
            if not self._job.has(f"ready/{rank}"):
                raise LostError("another process has failed")
            answer = self._job.get(f"ready/{rank}")
            problems |= {f"{line} (rank {rank})": None for line in answer.get("problems", ())}
            if answer.get("fingerprint", fingerprint) != fingerprint:
                problems |= {f"dataset: rank {rank} sees other samples than rank 0": None}
        if problems:
            raise ConfigError(*problems)
        interrupts.expect_others()
        self._job.set("go", True)

    def store_run_dir(self, run_dir: str) -> None:
        """Save the run directory of the job for a later attempt, and for the command that has started the processes."""
        self.write_note(f"run_dir/{self._number}", run_dir)
        folder = job_folder()
        if folder is not None:
            (folder / RUN_DIR).write_bytes(os.fsencode(run_dir))

    def dismiss_followers(self, code: int, *, final: bool) -> None:
        """Tell the followers to end with an exit code; if it is final, later attempts end with the same code."""
        if code:
            # torchrun reports the error with the earliest time, which has whole seconds
            write_error_file("see the message above, and the log of the run", seconds_later=2 * self._follower_failed)
        with contextlib.suppress(LostError):
            if final:
                self.write_note("ended", code)
            self._number += 1
            self._job.set("settings", {"code": code})
            deadline = time.monotonic() + PATIENCE / 4
            for rank in range(1, self.world.size):  # else torchrun would kill and report the followers
                self._job.wait(f"bye/{rank}", deadline=deadline)

    def write_note(self, name: str, value: str | int) -> None:
        """Save a value in the store for later attempts."""
        self._notes.set(name, value)

    def read_note(self, name: str) -> Any:
        """Return the value that an earlier attempt has saved, or None."""
        return self._notes.get(name) if self.world.attempt > 0 and self._notes.has(name) else None

    def _raise_cause(self, error: Exception) -> None:
        if (failure := told_failure(self._job, error)) is not None:
            self._follower_failed = True
        elif is_lost(error):
            message = f"rank {self.world.rank}: {describe_loss(error, self._timeout)}"
            failure = remote_error(message, str(error))
        if failure is not None:
            raise failure from failure.__cause__


class Follower(_TeamMember):
    """A process with any rank but 0."""

    def wait_for_job(self) -> Settings | int:
        """Return the settings of the leader's next job, or the exit code to end with."""
        self._number += 1
        self._job.wait("settings")
        plain = self._job.get("settings")
        if "code" in plain:
            if plain["code"]:
                write_error_file("ended with rank 0", seconds_later=4)
            self._job.set(f"bye/{self.world.rank}", True)
            return int(plain["code"])
        settings = job_from_plain(plain).settings
        self._begin(settings)
        return settings

    def report_ready(self, fingerprint: dict[str, Any], interrupts: Interrupts, problems: Sequence[str] = ()) -> bool:
        """Tell the leader that this process is ready, or its problems; wait, and return whether the job begins here."""
        interrupts.expect_others()
        answer = {"problems": list(problems)} if problems else {"fingerprint": fingerprint}
        self._job.set(f"ready/{self.world.rank}", answer)
        self._job.wait("go", "over")
        return self._job.has("go") and not problems

    def report_failure(self, message: str, error: BaseException) -> None:
        """Report to all processes that this process has failed, unless another process has caused the failure.

        Raises:
            LostError: another process has died or does not answer, and no process reports why.
        """
        if not is_lost(error):
            write_error_file("".join(traceback.format_exception(error)))
            tell_failure(self._job, self.world.rank, message, error)
            return
        try:
            self._job.wait("over", "failed", deadline=time.monotonic() + PATIENCE)
        except LostError:
            message = describe_loss(error, self._timeout)
            write_error_file(message)
            tell_failure(self._job, self.world.rank, message, error)
            raise

    def wait_for_end(self) -> None:
        """Wait for the end of the job.

        Raises:
            LostError: the leader does not end the job in time.
        """
        deadline = time.monotonic() + (3 * PATIENCE if self._job.has("failed") else self._timeout)
        self._job.wait("over", deadline=deadline, what="rank 0")


_teams: list[Team] = []  # empty until get_team is called, then holds its result


def get_team(patience: float = 1800.0) -> Team:
    """Return the team of this process; the first call connects the processes of the run.

    Args:
        patience: seconds to wait for the other processes at the first call.

    Raises:
        LostError: a process does not connect in time.
    """
    if not _teams:
        world = current_world()
        try:
            if world is None:
                _teams.append(Team())
            else:
                _teams.append((Follower if world.rank > 0 else Leader)(world, patience))
        except BaseException:
            _teams.append(Team())  # so that no later call waits again
            raise
    return _teams[0]


def have_met() -> bool:
    """Return whether ``get_team`` has connected the processes of this run, or has failed to do so."""
    return bool(_teams)
