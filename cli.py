"""The front door: the words are checked, Hydra composes each job, ``trainer.runner`` trains it. No torch here."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config import ConfigError, RunError, SweepError
from trainer.config.errors import printable
from trainer.memory import collect_garbage, wait_with_garbage
from trainer.processes.signals import INTERRUPTED, Interrupts, Stopped, ignore

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from trainer.processes.world import World


def main(words: list[str] | None = None) -> int:
    """The command ``train``: run it and return its exit code; every mistake is a line on stderr.

    Args:
        words: the command line; None takes that of the process.
    """
    stack_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    codes, timed_out = [0], False

    def train(config: DictConfig) -> float | None:
        """One job: check its config, run it, and hand the best score to a sweeper."""
        sys.argv = argv
        try:
            hydra_config = HydraConfig.get()
            sweep = hydra_config.mode == RunMode.MULTIRUN
            job = from_hydra(config, command.as_typed(plain_list(hydra_config.overrides.task)))
            if sweep and not job.fixed_run_dir:
                run_dir = os.path.relpath(hydra_config.runtime.output_dir)
                from trainer.sweep.folder import varied_in

                varied = varied_in(Path(hydra_config.sweep.dir), job.words)
                job = dataclasses.replace(job.replace(run_dir=run_dir), fixed_run_dir=True, varied=varied)
            if launch.needs_launch(job.settings):
                return score(launch.launch(job))
            from trainer.runner import run  # torch, 1.5 s: only once the config has proved right

            summary = run(job).summary
        except Stopped as stopped:
            if not (sweep and stopped.by_clock):  # each job has its own max_time; anything else is meant for all
                raise
            codes.append(stopped.code)
            return None
        except Exception as error:
            if not isinstance(error, RunError):
                interrupts.check()
            if stack_wanted:
                raise
            codes.append(report(error))
            interrupts.check()
            return None
        return score(summary)

    wait_with_garbage()
    argv, stack, interrupts = sys.argv, contextlib.ExitStack(), Interrupts()
    world: World | None = None
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no × shows a question mark
    logging.raiseExceptions = False  # a log line that cannot be written (train --info | head) is no error
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors over instead of printing them
    try:
        stack.enter_context(interrupts)  # and only then what takes its time
        from trainer import worker
        from trainer.processes import launch
        from trainer.processes.leader import dismiss_followers, read_note
        from trainer.processes.world import current_world

        world = current_world()
        if world is not None and world.rank > 0:
            codes.append(worker.follow())
            return codes[-1]
        if world is not None and (code := read_note("ended")) is not None:
            codes.append(code)
            return int(code)
        import hydra
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        from hydra_plugins.trainer_sweeps import register as register_sweepers
        from trainer.compose import options
        from trainer.compose.composer import from_hydra
        from trainer.compose.safety import compose_error, plain_list, without_asking_for_the_mode
        from trainer.config.yaml_file import config_dir

        command = options.parse(sys.argv[1:] if words is None else words)
        if command.answer():
            return 0
        sys.argv = [argv[0], *command.for_hydra()]
        if command.is_dry_sweep():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="train-dry-run-"))
            sys.argv.append(f"hydra.sweep.dir={folder}")
        if world is not None and (sweep_dir := read_note("sweep_dir")) is not None:
            sys.argv.append(f"hydra.sweep.dir={sweep_dir}")
        if command.mode_is_known:
            stack.enter_context(without_asking_for_the_mode())
        register_sweepers()
        hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="train")(train)()
    except KeyboardInterrupt as stopped:
        timed_out = getattr(stopped, "by_clock", False)
        codes.append(report_stop(stopped))
    except BrokenPipeError:
        codes.append(1)
    except SweepError as error:
        codes.append(error.code)
    except Exception as error:  # jobs report their own, so this is about the command, whatever its type
        if interrupts.asked is not None:  # what a signal cut in two fails in ways of its own
            codes.append(report_stop(Stopped(interrupts.asked)))
        elif stack_wanted:
            raise
        else:
            codes.append(report(error if isinstance(error, ConfigError) else compose_error(error)))
    finally:
        collect_garbage()
        sys.argv = argv
        stack.close()
        if max(codes) >= INTERRUPTED and threading.current_thread() is threading.main_thread():
            ignore()
        os.environ["HYDRA_FULL_ERROR"] = str(int(stack_wanted))
        if world is not None and world.rank == 0:
            code = max(codes)
            dismiss_followers(code, final=code == 2 or timed_out, stopped=code >= INTERRUPTED)
        leave_a_broken_pipe()
    return max(codes)


def report(error: Exception, command: str = "train") -> int:
    """Print an error's lines and return the exit code: 2 for the user's mistakes, 1 for everything else."""
    problems = error.problems if isinstance(error, ConfigError) else [str(error)]
    for problem in problems:
        print(f"{command}: error: {printable(problem)}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


def report_stop(stopped: KeyboardInterrupt, command: str = "train") -> int:
    """Print what asked the command to end and return the exit code."""
    print(f"{command}: {stopped or 'interrupted'}", file=sys.stderr)
    code: int = getattr(stopped, "code", INTERRUPTED)
    return code


def score(summary: dict[str, Any]) -> float | None:
    """The best value of the monitored metric, which a sweeper may optimize."""
    best: float | None = summary["best"].get(summary["monitor"])
    return best


def leave_a_broken_pipe() -> None:
    """Where nobody reads our output any more (``train --help | head``), say nothing about it at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
