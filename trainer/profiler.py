"""Profile some training steps with torch's profiler, and write a table of operators and a trace."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerAction, ProfilerActivity, profile

from trainer.config.errors import reason_of
from trainer.data.loader import Batch, Loader
from trainer.runs import atomic_files

log = logging.getLogger("trainer")

SKIPPED, WARM_UP, RECORDED = 10, 2, 20  # steps; the first steps choose kernels, the first profiled steps are slow
MAX_SHOWN = 10  # operators in the table
FOLDER, TRACE = "profile", "trace.json.gz"
STEP = "ProfilerStep"  # torch's name for a step
# notices of the profiler on a machine without a GPU; a build of torch for CUDA writes the second one
NOTICE = re.compile(rb"USDT:|.* DeviceProperties\.cpp:\d+\] gpuGetDeviceCount failed")


class Profiled:
    """A wrapper of the train loader that starts a profiler step with every batch.

    Train within ``with Profiled(…) as loader:``. In one epoch, 20 steps are recorded after the first 12 steps; in a
    shorter epoch, fewer steps are recorded. The rest of a resumed epoch, if too short for this, is recorded only if no
    other epoch follows.

    The table and the trace are written before the next epoch begins, or at the end of the training, even after an
    error, so that writing them does not count as epoch time and does not delay a checkpoint.

    Args:
        loader: the train loader.
        total_steps: the number of optimizer steps of the whole run.
        device: the device of the model; on CUDA, the table shows GPU time.
        run_dir: the folder for the trace ``profile/trace.json.gz``; None writes no trace.
    """

    def __init__(self, loader: Loader, total_steps: int, device: torch.device, run_dir: Path | None) -> None:
        self._loader, self._total_steps, self._device, self._run_dir = loader, total_steps, device, run_dir
        self._profiler: profile | None = None
        self._first = self._num_recorded = 0  # the first recorded step, from 1, and the number of recorded steps
        self._written = False

    def __enter__(self) -> Profiled:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        if not self._written:
            log.info("profile  the training ended before a step was recorded")

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int = 0, start: int = 0) -> Generator[Batch, None, None]:
        self._write()
        return self._batches(epoch, start)

    def positions(self, epoch: int, batch: int) -> Tensor:
        return self._loader.positions(epoch, batch)

    def close(self) -> None:
        self._loader.close()

    def _batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        done = epoch * len(self) + start
        steps = min(len(self) - start, self._total_steps - done)
        enough = min(SKIPPED + WARM_UP + RECORDED, len(self))
        with contextlib.closing(self._loader.epoch(epoch, start)) as batches:
            if not self._written and (steps >= enough or done + steps == self._total_steps):
                yield from self._recorded(batches, done, steps)
            yield from batches

    def _recorded(self, batches: Iterator[Batch], done: int, steps: int) -> Iterator[Batch]:
        """Yield the batches of the profiled steps, at most ``steps``; ``done`` steps of the run came before them."""
        skipped = min(SKIPPED, steps // 3)
        unrecorded = skipped + min(WARM_UP, max(0, steps - skipped - 1))
        # a step ends when the next batch is fetched, so the last step of an epoch would include the evaluation
        recorded = min(RECORDED, max(1, steps - unrecorded - 1))

        def action(step: int) -> ProfilerAction:
            if step < skipped:
                return ProfilerAction.NONE
            return ProfilerAction.WARMUP if step < unrecorded else ProfilerAction.RECORD

        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (self._device.type == "cuda")
        self._first = done + unrecorded + 1
        try:
            for number, batch in enumerate(itertools.islice(batches, unrecorded + recorded)):
                with _without_notices() if number in (0, unrecorded) else contextlib.nullcontext():
                    # started after the first batch, so that no data worker is forked from a profiled process
                    if self._profiler is None:
                        self._profiler = profile(activities=activities, schedule=action)
                        self._profiler.start()
                    else:
                        self._profiler.step()
                self._num_recorded = max(0, number + 1 - unrecorded)
                yield batch
        finally:
            if self._profiler is not None:
                with _without_notices():
                    self._profiler.stop()

    def _write(self) -> None:
        """Log the table and write the trace, once; an error is logged as a warning."""
        profiler = self._profiler
        if profiler is None or self._num_recorded == 0 or self._written:
            return
        lines = []
        try:
            lines += self._table(profiler)
            if self._run_dir is not None:
                path = self._run_dir / FOLDER / TRACE
                path.parent.mkdir(exist_ok=True)
                atomic_files.write(path, lambda temporary: _export(profiler, temporary))
                lines.append(f"trace: {path} (open it in https://ui.perfetto.dev)")
        except Exception as error:  # the profiler must not end the training
            log.warning("warning  no profile: %s", reason_of(error))
        self._written, self._profiler = True, None  # frees every recorded operator
        for line in lines:
            log.info("profile  %s", line)

    def _table(self, profiler: profile) -> list[str]:
        """Return the lines of the table: the time of a step, and the operators with the largest self time."""
        on_gpu, count = self._device.type == "cuda", self._num_recorded
        ranges = [event.time_range for event in profiler.events() or ()]
        steps = [event.time_range for event in profiler.events() or () if event.name.startswith(STEP)]
        # the GPU may finish after the step that launched its work
        whole = (max(each.end for each in ranges) - min(each.start for each in steps)) / 1000 / count
        times = {
            each.key: ((each.self_device_time_total if on_gpu else each.self_cpu_time_total) / 1000 / count, each.count)
            for each in profiler.key_averages()
            if each.device_type == DeviceType.CPU and not each.key.startswith(STEP)
        }
        inside, where = sum(own for own, _ in times.values()) / whole, "GPU" if on_gpu else "CPU"
        which = f"steps {self._first} to {self._first + count - 1}" if count > 1 else f"step {self._first}"
        lines = [
            f"{which}: {whole:.3f} ms a step, {100 * inside:.0f} % of it in operators on the {where}, most in these:"
        ]
        for name, (own, calls) in sorted(times.items(), key=lambda item: -item[1][0])[:MAX_SHOWN]:
            lines.append(f"{100 * own / whole:5.1f} % {own:9.3f} ms  {round(calls / count, 1):5g} ×  {name[:70]}")
        return lines


def _export(profiler: profile, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(plain))
        with plain.open("rb") as source, gzip.open(path, "wb") as target:
            shutil.copyfileobj(source, target)


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """Drop the lines that the profiler's C++ library writes to standard error when it starts and stops."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            heard.seek(0)
            os.write(2, b"".join(line for line in heard if not NOTICE.match(line)))
