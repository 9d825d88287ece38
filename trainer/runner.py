"""One run: rank 0 prepares, trains, tests and reports (``run``); all other ranks take part (``take_part``)."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file
from torch import nn

from trainer.build import assemble
from trainer.checkpoint import BEST_WEIGHTS
from trainer.compose import plugins
from trainer.config import ConfigError, Job, NotFiniteError, RunError, Settings, errors
from trainer.data.data_workers import watched_workers
from trainer.engine import Engine
from trainer.metrics import Sums
from trainer.nonfinite import explained
from trainer.prepare import Prepared, prepared
from trainer.processes.launch import launch, needs_launch
from trainer.processes.signals import Interrupts, Stopped
from trainer.processes.store import LostError
from trainer.processes.team import Follower
from trainer.reporting import announce, conclude, one_line, record_resume, record_start, resume_notes, summary_so_far
from trainer.runs.directory import CHECKPOINTS

log = logging.getLogger("trainer")


class Result(NamedTuple):
    """The content of summary.json plus ``run_dir``, and the model with the best weights in evaluation mode."""

    summary: dict[str, Any]
    model: nn.Module


def run(job: Job | Settings) -> Result:
    """Train, test with the best weights, and write a run directory: ``summary, model = run(compose("epochs=3"))``.

    Args:
        job: the job that ``compose`` returned; settings alone count as a job without overrides.

    Raises:
        ConfigError: the config is wrong; nothing was written.
        RunError: any other failure; the message is one line that names the log, which has the traceback. The run
            directory and its checkpoints stay.
    """
    job = Job(job) if isinstance(job, Settings) else job
    if needs_launch(job.settings):
        summary = launch(job)
        return Result(summary, _best_model(job.settings, summary))
    with prepared(job) as ready:
        with _connected(ready) as engine:
            _start_or_resume(engine, ready)
            with _profiled(engine, ready.directory.path):
                engine.fit()
            tested_step, sums = _test(engine, ready)
        summary = conclude(engine, ready.job, ready.directory, ready.loggers.values(), tested_step, sums)
        return Result({**summary, "run_dir": ready.job.settings.run_dir}, engine.evaluated.eval())


@contextlib.contextmanager
def _connected(ready: Prepared) -> Iterator[Engine]:
    """Connect the processes and create the engine; on exit, pass the summary so far to the run directory."""
    settings, parts, interrupts, engine = ready.job.settings, ready.parts, ready.interrupts, None
    try:
        with (
            explained(settings, ready.checkpoints, interrupts),
            ready.team.join_group(parts.placement.device, interrupts) as group,
        ):
            engine = Engine(parts, settings, group, interrupts, ready.checkpoints, ready.loggers, ready.started)
            with contextlib.closing(engine):
                yield engine
    finally:
        if engine is not None:
            ready.directory.so_far = summary_so_far(engine)


def _start_or_resume(engine: Engine, ready: Prepared) -> None:
    """Log the first lines of the run, and restore the state of the checkpoint if the run is resumed.

    Raises:
        RunError: the checkpoint was written by an incompatible version of this program.
    """
    found, directory = ready.found, ready.directory
    announce(engine, directory, ready.team.world)
    engine.group.broadcast(None if found is None else found.state)
    if found is None:
        engine.recorder.load_state_dict({})  # clears the points of a run that was killed before its first checkpoint
        record_start(engine, directory, ready.loggers.values())
        return
    try:
        engine.load(found.state)
        notes = [*ready.notes, *resume_notes(engine, found)]
        engine.is_done()
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError, OverflowError) as error:
        raise RunError(f"the checkpoint {found.name} does not fit this version: {errors.one_line(error)}") from error
    ready.checkpoints.restore_files(found, engine.progress.best.get("step"))
    record_resume(engine, found, notes, directory)


@contextlib.contextmanager
def _profiled(engine: Engine, run_dir: Path) -> Iterator[None]:
    """Profile some steps of the training within this context if ``profile`` is set."""
    if not engine.settings.profile:
        yield
        return
    from trainer.profiler import Profiled  # torch.profiler is slow to import

    folder = None if engine.settings.dry_run else run_dir
    with Profiled(engine.loaders.train, engine.total_steps, engine.device, folder) as train:
        engine.loaders = engine.loaders._replace(train=train)
        yield


def _test(engine: Engine, ready: Prepared) -> tuple[int, Sums]:
    """Evaluate the test split with the best weights, and write these weights to ``best.safetensors``.

    Returns:
        the optimizer step of the weights, and the sums of the test split.

    Raises:
        RunError: the test loss is NaN or infinite.
    """
    found = ready.checkpoints.best()
    step, weights = found.state["step"], found.state["model" if engine.ema is None else "ema"]
    if step == engine.progress.best["step"]:
        ready.checkpoints.save_weights(weights)
    else:
        log.warning("warning  the best weights are lost: testing those of step %d (%s)", step, found.name)
    sums = engine.test(weights)
    results = sums.compute(engine.metrics)
    if not math.isfinite(results["loss"]):
        raise RunError(f"the test loss is {results['loss']} with the weights of step {step}")
    engine.recorder.log_test(results, engine.progress.step)
    return step, sums


def _best_model(settings: Settings, summary: Mapping[str, Any]) -> nn.Module:
    """Return the model that other processes have trained, on the CPU; after a dry run, it is untrained."""
    model = assemble(settings.replace(device={"name": "cpu", "threads": None}, precision="fp32")).model
    if not settings.dry_run:
        model.load_state_dict(load_file(Path(summary["run_dir"]) / CHECKPOINTS / BEST_WEIGHTS))
    return model.eval()


def take_part(settings: Settings, team: Follower) -> None:
    """Do this process's part of a job, and send errors to rank 0, which reports them.

    Raises:
        Stopped: a signal arrived before the job began.
    """
    begun = False
    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        try:
            stack.enter_context(watched_workers())
            plugins.require(settings.plugins)
            parts = assemble(settings)
            stack.callback(parts.loaders.close)
            begun = team.report_ready(parts.fingerprint, interrupts)
            if not begun:
                return
            with (
                team.join_group(parts.placement.device, interrupts) as group,
                contextlib.closing(Engine(parts, settings, group, interrupts)) as engine,
            ):
                state = group.broadcast(None)
                if state is not None:
                    engine.load(state)
                engine.fit()
                engine.test(None)
        except ConfigError as error:
            team.report_ready({}, interrupts, error.problems)
        except NotFiniteError:
            pass  # every process raises it at the same step; rank 0 explains it
        except Stopped:
            if not begun:
                raise
        except Exception as error:
            if isinstance(error, LostError) or interrupts.asked is None:
                team.report_failure(one_line(error), error)
            else:  # torchrun has sent a signal to every process, because one failed
                interrupts.check()
