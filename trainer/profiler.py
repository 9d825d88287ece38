"""Where the time of a step goes: torch's profiler over some steps of the training, a table and a trace."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerAction, ProfilerActivity, profile

from trainer.data.loader import Batch, Loader
from trainer.runs import atomic_files

log = logging.getLogger("trainer")

SKIPPED, WARM_UP, RECORDED = 10, 2, 20  # steps; the first ones choose kernels, the profiler's own first ones are slow
MAX_SHOWN = 10  # operators
FOLDER, TRACE = "profile", "trace.json.gz"
STEP = "ProfilerStep"  # how torch calls a step


class Profiled:
    """The train loader, which lets the profiler know where a step begins: when its batch is handed over.

    ``with Profiled(…) as loader:`` stands around the training. Twenty steps of one epoch are recorded after twelve
    others; of an epoch with fewer, what there is. Of an epoch that is cut by a resume no fewer, if others follow.

    The table and the trace are written before the next epoch begins or at the end of the training, however it ends:
    neither the clocks of an epoch nor a checkpoint that has to be saved wait for that.

    Args:
        loader: the one that is wrapped.
        total_steps: optimizer steps of the whole run.
        device: where the model is; on CUDA the time of the GPU is what counts.
        run_dir: has the trace afterwards, in ``profile/trace.json.gz``; None keeps none.
    """

    def __init__(self, loader: Loader, total_steps: int, device: torch.device, run_dir: Path | None) -> None:
        self._loader, self._total_steps, self._device, self._run_dir = loader, total_steps, device, run_dir
        self._profiler: profile | None = None
        self._first = self._num_recorded = 0  # steps; the first is counted from 1
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
        """The batches of an epoch, from batch ``start`` on."""
        self._write()
        return self._batches(epoch, start)

    def positions(self, epoch: int, batch: int) -> Tensor:
        """The positions in their source of the samples of one batch, int64 on the CPU."""
        return self._loader.positions(epoch, batch)

    def close(self) -> None:
        """End the processes that read, if there are some."""
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
        """Those of the next ``steps`` batches that the profiler has to see; ``done`` came before."""
        skipped = min(SKIPPED, steps // 3)
        unrecorded = skipped + min(WARM_UP, max(0, steps - skipped - 1))
        # a step ends where the next batch is asked for, and the last one of an epoch after its evaluation and its log
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
                    # begun with the first batch in hand: no data worker is the child of a process that is recorded
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
        """Show and keep what was recorded; once, and a failure ends nothing."""
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
        except Exception as error:  # whatever the profiler cannot do
            log.warning("warning  no profile: %s", getattr(error, "strerror", None) or error)
        self._written, self._profiler = True, None  # which has every operator of these steps
        for line in lines:
            log.info("profile  %s", line)

    def _table(self, profiler: profile) -> list[str]:
        """How long a step took, and the operators that took most of it themselves, without those that they call."""
        on_gpu, count = self._device.type == "cuda", self._num_recorded
        ranges = [event.time_range for event in profiler.events() or ()]
        steps = [event.time_range for event in profiler.events() or () if event.name.startswith(STEP)]
        # the GPU may end after the step that gave it the work
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
    """Write the trace, compressed."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(plain))
        with plain.open("rb") as source, gzip.open(path, "wb") as target:
            shutil.copyfileobj(source, target)


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """The profiler's library writes to the terminal that it starts and stops; what else it says is passed on."""
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
            os.write(2, b"".join(line for line in heard if not line.startswith(b"USDT:")))
