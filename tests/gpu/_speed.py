"""How fast the command trains on the card, beside the bare loop, the arithmetic alone and Lightning in the same call.

``limit`` is ``limit, tuned`` of ``tests.benchmarks._peers``. All train the same networks in batches of the same size,
and none augments; pictures are made up. ``train`` has its defaults otherwise: TensorBoard, log, checkpoint, metrics.
"""

from __future__ import annotations

import gzip
import importlib.util
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.benchmarks import _peers
from tests.benchmarks._peers import PICTURES, Task, batch_of, pictures_of
from tests.benchmarks.speed import JOBS as WORDS
from tests.benchmarks.speed import PACKAGES
from tests.gpu._here import Here, within
from tests.gpu._parts import OK, Case, Results, SkippedError
from tests.kills import FOLDER
from trainer import compose, run

SMALL, LARGE = f"{PICTURES}32", f"{PICTURES}224"
JOBS = ("cnn", "gru", "lstm", SMALL, LARGE)
STEPS = {SMALL: 120, LARGE: 50}  # of a timed training; else 400. A fifth of them are not timed
SEGMENTS = 4  # timed one by one; the rate is their median
PEERS = {"limit": "limit, tuned", "loop": "loop", "Lightning": "Lightning"}
RECORDED = 34  # steps of a run that records twenty
ON_CARD, OFF_CARD = ("kernel", "gpu_memcpy", "gpu_memset"), ("cpu_op",)


def speed(setting: dict[str, Any]) -> list[Case]:
    """What is compared for each job first, then the other precisions, then data that is streamed."""
    here = Here.of(setting)
    if not here.on_gpu:
        tools = {"cnn": (*PEERS, "train", "train, streamed"), SMALL: ("limit", "train")}
        return [_case(here, job, tool, "fp32") for job in tools for tool in tools[job]]
    rounds = (
        (("train", "bf16"), ("limit", "bf16"), ("loop", "bf16"), ("Lightning", "bf16")),
        (("train", "fp32"), ("limit", "fp32"), ("train", "tf32"), ("limit", "tf32")),
        (("train, streamed", "bf16"),),
    )
    return [_case(here, job, *each) for some in rounds for job in JOBS for each in some]


def more(setting: dict[str, Any]) -> list[Case]:
    """Return the rest of the comparison, for which there may be no time."""
    here = Here.of(setting)
    tools = ("loop", "Lightning", "train, streamed") if here.on_gpu else ()
    return [_case(here, job, tool, precision) for precision in ("fp32", "tf32") for job in JOBS for tool in tools]


def compiled(setting: dict[str, Any]) -> list[Case]:
    here = Here.of(setting)
    if not here.on_gpu:
        return [_case(here, "cnn", "train, compiled", "fp32")]
    pairs = [("train, compiled", "bf16"), ("limit, compiled", "bf16"), ("train, compiled", "fp32")]
    pairs += [("train, compiled", "tf32"), ("train, streamed, compiled", "bf16")]
    return [_case(here, job, *each) for each in pairs for job in JOBS]


def launches(setting: dict[str, Any]) -> list[Case]:
    here, results = Here.of(setting), Results(Path(setting["results"]))
    return [
        Case(f"{job}, {precision}", partial(_launches, here, results, job, precision))
        for precision in ("bf16", "fp32")[not here.on_gpu :]
        for job in (JOBS if here.on_gpu else JOBS[:1])
    ]


def _case(here: Here, job: str, tool: str, precision: str) -> Case:
    return Case(f"{job}, {tool}, {precision}", partial(_measure, here, job, tool, precision), 120)


def _measure(here: Here, job: str, tool: str, precision: str) -> dict[str, Any]:
    """Time a tool; see ``_timed``."""
    _need(tool)
    steps = _steps(here, job)
    _make_data(here, job)
    name, *how = tool.split(", ")
    torch.compiler.reset()
    if name == "train":
        words = _words(here, job, precision, streamed="streamed" in how, compiled="compiled" in how)
        call: Callable[[], Any] = lambda: run(compose(*words, f"max_steps={steps}"))  # noqa: E731
    else:
        workers = _workers() if here.on_gpu else 0
        device = torch.device(here.device)
        count = steps * batch_of(job)
        task = Task(job, here.data, count, device, precision, "compiled" in how, workers)
        _peers.prepare(task)
        torch.use_deterministic_algorithms(False)  # as everyone has it; a run before has set it
        call = partial(_peers.TOOLS[PEERS[name]], task)
    with within(here.new()):
        figures = _timed(here, call, steps, batch_of(job))
    least, most = figures["least"], figures["most"]
    note = f"{figures['rate']:,.0f} images/s ({least:,.0f}–{most:,.0f}), {figures['mebibytes']:,.0f} MiB"
    return {"job": job, "tool": tool, "precision": precision, **figures, "note": note}


def _need(tool: str) -> None:
    """Skip a tool that is not installed."""
    package = PACKAGES.get(tool.partition(", ")[0])
    if package is not None and importlib.util.find_spec(package) is None:
        raise SkippedError(f"{package} is not installed")


def _steps(here: Here, job: str) -> int:
    """Steps of a timed training."""
    if not here.on_gpu:
        return 3 if job.startswith(PICTURES) else 5
    return STEPS.get(job, 400)


def _workers() -> int:
    return min(8, (os.cpu_count() or 2) // 2)


def _words(here: Here, job: str, precision: str, *, streamed: bool, compiled: bool = False) -> list[str]:
    """The command for a job."""
    if job.startswith(PICTURES):
        data = [
            f"dataset.path={pictures_of(job, here.data)}",
            "dataset=npz",
            "model=torchvision",
            "model.arch=resnet18",
        ]
    else:
        data = [*WORDS[job], "dataset=mnist", f"dataset.root={here.data}", "dataset.augment.crop=0"]
    data += ["dataset.val_fraction=0", f"dataset.in_memory={str(not streamed).lower()}"]
    data += [f"dataset.workers={_workers()}"] if streamed and here.on_gpu else []
    return [
        *data,
        *(f"device={here.device}", f"precision={precision}", f"compile={str(compiled).lower()}"),
        *("epochs=1", f"batch_size={batch_of(job)}", f"run_dir={FOLDER}"),
    ]


def _timed(here: Here, call: Callable[[], Any], steps: int, batch: int) -> dict[str, Any]:
    """Train, and measure images per second between steps at which the device has done all it was given.

    Returns:
        the median, least and largest rate of some segments, and the most memory of tensors on the card in MiB.
    """
    skipped = max(1, steps // 5)
    ends = sorted({skipped + (steps - skipped) * number // SEGMENTS for number in range(SEGMENTS + 1)})
    times: list[float] = []
    done = 0

    def note(*_: Any) -> None:
        nonlocal done
        done += 1
        if done in ends:
            if here.on_gpu:
                torch.cuda.synchronize()
            times.append(time.perf_counter())

    if here.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    handle = register_optimizer_step_post_hook(note)
    try:
        call()
    finally:
        handle.remove()
    counts = [end - start for start, end in itertools.pairwise(ends)]
    spans = [end - start for start, end in itertools.pairwise(times)]
    rates = [count * batch / span for count, span in zip(counts, spans, strict=True)]
    memory = torch.cuda.max_memory_allocated() / 2**20 if here.on_gpu else 0.0
    return {"rate": statistics.median(rates), "least": min(rates), "most": max(rates), "mebibytes": memory}


def _launches(here: Here, results: Results, job: str, precision: str) -> dict[str, Any]:
    """Count what a step launches, and the share of a step in which the card does nothing.

    The profile makes a step slower but not its kernels, so a step's time is taken from the timed training, if any.
    """
    _make_data(here, job)
    torch.compiler.reset()
    words = _words(here, job, precision, streamed=False)
    with within(here.new()):
        run(compose(*words, "profile=true", f"max_steps={RECORDED if here.on_gpu else _steps(here, job)}"))
        with gzip.open(Path(FOLDER) / "profile" / "trace.json.gz", "rt") as file:
            events = json.load(file)["traceEvents"]
    kinds = ON_CARD if here.on_gpu else OFF_CARD
    spans = sorted((each["ts"], each["ts"] + each["dur"]) for each in events if each.get("cat") in kinds)
    count = len({each["name"] for each in events if str(each.get("name")).startswith("ProfilerStep#")})
    timed = [
        line["figures"]
        for line in results.cases("speed", OK).values()
        if [line["figures"].get(name) for name in ("job", "tool", "precision")] == [job, "train", precision]
    ]
    busy = sum(end - start for start, end in _union(spans)) / 1000 / count
    whole = (max(end for _, end in spans) - spans[0][0]) / 1000 / count
    step = 1000 * batch_of(job) / timed[0]["rate"] if timed else whole
    idle = max(0.0, 1 - busy / step)
    found = {"job": job, "tool": "train", "precision": precision, "launches": len(spans) / count, "idle": idle}
    note = f"{found['launches']:.0f} launches, {busy:.3f} of {step:.3f} ms busy, {100 * idle:.0f} % idle"
    return {**found, "busy": busy, "step": step, "note": note}


def _union(spans: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Join the intervals that overlap; ``spans`` are sorted."""
    start, end = spans[0]
    for first, last in spans[1:]:
        if first > end:
            yield start, end
            start = first
        end = max(end, last) if first <= end else last
    yield start, end


def _make_data(here: Here, job: str) -> None:
    """Write the data of a job, unless it is there: files like those of MNIST, or colour pictures."""
    draw = np.random.default_rng(0)
    if not job.startswith(PICTURES):
        folder = here.data / "MNIST" / "raw"
        if not folder.exists():
            folder.mkdir(parents=True)
            for part, count in (("train", 60_000), ("t10k", 1_000 if here.on_gpu else 200)):
                labels = draw.integers(0, 10, count, dtype=np.uint8)
                _write_idx(folder / f"{part}-images-idx3-ubyte", _pictures(draw, labels, (28, 28)))
                _write_idx(folder / f"{part}-labels-idx1-ubyte", labels)
        return
    file, size = pictures_of(job, here.data), int(job.removeprefix(PICTURES))
    if not file.exists():
        arrays: dict[str, Any] = {}
        for part, count in (("train", _steps(here, job) * batch_of(job)), ("test", batch_of(job))):
            arrays[f"{part}_y"] = draw.integers(0, 10, count, dtype=np.uint8)
            arrays[f"{part}_x"] = _pictures(draw, arrays[f"{part}_y"], (size, size, 3))
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **arrays)


def _pictures(draw: np.random.Generator, labels: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Random pictures, brighter for larger labels."""
    pictures = draw.integers(0, 128, (len(labels), *shape), dtype=np.uint8)
    pictures += (labels * 12).reshape(-1, *[1] * len(shape))
    return pictures


def _write_idx(file: Path, values: np.ndarray[Any, Any]) -> None:
    """Write an array of bytes as MNIST has it."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    file.write_bytes(bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes())
