"""Whole runs on the card: models in every precision, resumed runs, several processes, NaN, the profile."""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import math
import shutil
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.gpu._checks import COLOUR, RAGGED, RESNET, ROWS
from tests.gpu._here import Here, apart, losses, train
from tests.gpu._parts import Case
from tests.kills import FOLDER, outcome
from trainer import RunError
from trainer.runs import checkpoint_file

MODELS: dict[str, tuple[str, ...]] = {
    "cnn": ("model=cnn", *ROWS),
    "gru": ("model=gru", *ROWS),
    "gru-before": ("model=gru", "model.reset_after=false"),  # of the eight rows of a digit, as compiling unrolls them
    "lstm-both": ("model=lstm", "model.bidirectional=true", "model.layers=2", *RAGGED),
    "resnet18": (*RESNET, *COLOUR),
}
FEW = ("epochs=1", "log_every=1", "ema=0.9", "accumulate=2", "clip_norm=1.0")
# The largest relative difference to float32 of the first loss, and of the loss after six steps.
CLOSE = {"fp32": (1e-4, 1e-2), "tf32": (1e-2, 5e-2), "bf16": (5e-2, 0.2), "fp16": (1e-2, 0.2)}
CPU = "fp32, of the CPU"

INTERRUPTED: dict[str, tuple[str, ...]] = {
    "cnn": ("model=cnn", "model.dropout=0.2", "dataset.augment.crop=1"),
    "lstm, two layers, dropout": ("model=lstm", "model.layers=2", "model.dropout=0.3"),
    "gru, two layers, dropout, ema": ("model=gru", "model.layers=2", "model.dropout=0.3", "ema=0.9"),
    "fp16": ("model=cnn", "precision=fp16"),
    "async": ("model=cnn", "checkpoint.async=true", "checkpoint.every_steps=2", "accumulate=2"),
    "streamed": ("model=cnn", "model.dropout=0.2", "dataset.in_memory=false", "dataset.workers=2"),
}
PATHS: dict[str, tuple[str, ...]] = {
    "cnn, augmented": ("model=cnn", "dataset.augment.crop=1", "dataset.augment.rotate=10"),
    "cnn, mixup": ("model=cnn", "dataset.augment.mixup=0.2"),
    "lstm, lengths": ("model=lstm", *RAGGED),
}


def matrix(setting: dict[str, Any], model: str) -> list[Case]:
    """A model in every precision, eager and then compiled, as the eager ones take less time."""
    here = Here.of(setting)
    reference = functools.cache(lambda: _few(here, model, "fp32", compiled=False))
    cases = [Case(each, partial(_close, here, model, each, False, reference)) for each in here.precisions]
    cases += [Case(CPU, partial(_beside_cpu, here, model, reference))] if here.on_gpu else []
    compiled = ("bf16", "fp32", "fp16", "tf32") if here.on_gpu else ("fp32",) if model == "cnn" else ()
    return [
        *cases,
        *(Case(f"{each}, compiled", partial(_close, here, model, each, True, reference), 150) for each in compiled),
    ]


def _few(here: Here, model: str, precision: str, *, compiled: bool) -> list[float]:
    size = ("max_steps=6", "batch_size=64") if here.on_gpu else ("max_steps=3", "batch_size=16")
    words = (*MODELS[model], *FEW, *size, f"precision={precision}", f"compile={str(compiled).lower()}")
    found = losses(train(here, *words))
    assert all(map(math.isfinite, found)), f"losses {found}"
    return found


def _close(here: Here, model: str, precision: str, compiled: bool, reference: Any) -> dict[str, Any]:
    return _beside(_few(here, model, precision, compiled=compiled), reference(), CLOSE[precision])


def _beside_cpu(here: Here, model: str, reference: Any) -> dict[str, Any]:
    words = (*MODELS[model], *FEW, "max_steps=6", "batch_size=64", "precision=fp32")
    return _beside(reference(), losses(train(here._replace(device="cpu"), *words)), CLOSE["fp32"])


def _beside(found: Sequence[float], wanted: Sequence[float], most: tuple[float, float]) -> dict[str, Any]:
    first, last = apart(found[:1], wanted[:1]), apart(found[-1:], wanted[-1:])
    note = f"first loss {first:.1e} apart, last {last:.1e}"
    assert first <= most[0] and last <= most[1], note
    return {"first": first, "last": last, "note": note}


def resumed(setting: dict[str, Any]) -> list[Case]:
    here = Here.of(setting)
    cases = [Case(name, partial(_interrupted, here, words)) for name, words in INTERRUPTED.items()]
    return [
        *cases,
        Case("states of two GPUs", partial(_other_gpus, here, here.device)),
        Case("states of two GPUs, on the CPU", partial(_other_gpus, here, "cpu")),
    ]


def _interrupted(here: Here, words: tuple[str, ...]) -> dict[str, Any]:
    """Stop in the middle of the first epoch, go on, and get the bits of a run that was not stopped."""
    words = (*words, "epochs=2", "limit_batches=8", "log_every=1", "seed=3")
    whole = train(here, *words, "resume=auto")
    folder = here.new()
    with _stopped_after(5):
        train(here, *words, "resume=auto", folder=folder)
    step = _last(folder)["step"]
    assert step == 5, f"stopped after step {step}"
    train(here, *words, "resume=auto", folder=folder)
    one, two = outcome(whole), outcome(folder)
    different = [name for name in one if one[name] != two[name]]
    if "last" in different:
        different += [f"last.{name}" for name in one["last"] if one["last"][name] != two["last"].get(name)]
    assert not different, f"{', '.join(different)} differ"
    return {}


@contextlib.contextmanager
def _stopped_after(step: int) -> Iterator[None]:
    """Send this process SIGTERM in an optimizer step; the run completes the step."""
    done = 0

    def count(*_: Any) -> None:
        nonlocal done
        done += 1
        if done == step:
            signal.raise_signal(signal.SIGTERM)

    handle = register_optimizer_step_post_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _last(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(
        folder / FOLDER / "checkpoints" / "last.pt", map_location="cpu", weights_only=True
    )
    return loaded


def _other_gpus(here: Here, device: str) -> dict[str, Any]:
    """Resume from a checkpoint as runs on a machine with two GPUs have written it: the states of all GPUs."""
    words = ("epochs=2", "limit_batches=4", "resume=auto")
    folder = train(here, *words, "max_steps=4")
    state = _last(folder)
    one = torch.cuda.get_rng_state().cpu() if here.on_gpu else torch.zeros(16, dtype=torch.uint8)
    state["random"]["cuda"] = [one, one.clone()]
    checkpoint_file.dump(state, folder / FOLDER / "checkpoints" / "last.pt")
    train(here._replace(device=device), *words, "max_steps=8", folder=folder)
    assert _last(folder)["step"] == 8
    return {}


def streamed(setting: dict[str, Any]) -> list[Case]:
    here = Here.of(setting)
    return [Case(name, partial(_streamed, here, words)) for name, words in PATHS.items()]


def _streamed(here: Here, words: tuple[str, ...]) -> dict[str, Any]:
    common = (*words, "epochs=2", "limit_batches=6", "log_every=1")
    memory = losses(train(here, *common, "dataset.in_memory=true"))
    for workers in (0, 2):
        found = losses(train(here, *common, "dataset.in_memory=false", f"dataset.workers={workers}"))
        assert found == memory, f"{workers} workers: {apart(found, memory):.1e} apart"
    return {}


def processes(setting: dict[str, Any]) -> list[Case]:
    here = Here.of(setting)
    reference = functools.cache(lambda: losses(train(here, *_ONE_EPOCH, "model.norm=batch")))
    return [Case(name, partial(_processes, here, name, reference), 120) for name in ("ddp", "fsdp")]


_ONE_EPOCH = ("max_steps=10", "epochs=1", "log_every=1", "precision=fp32", "clip_norm=1.0", "ema=0.9", "accumulate=2")


def _processes(here: Here, device: str, reference: Any) -> dict[str, Any]:
    """Train in one process that other processes could join, over NCCL, as with one device."""
    words = (*_ONE_EPOCH, "model.norm=batch")
    folder = train(here._replace(device=device), *words, "device.processes=1")
    found, wanted = losses(folder), reference()
    note = "equal" if found == wanted else f"{apart(found, wanted):.1e} apart"
    assert apart(found, wanted) < 1e-5, note
    return {"apart": apart(found, wanted), "note": note}


def faults(setting: dict[str, Any]) -> list[Case]:
    here = Here.of(setting)
    return [
        Case("skip a batch with NaN", partial(_skipped, here)),
        Case("trace a NaN", partial(_traced, here)),
        Case("peak memory of two runs", partial(_peaks, here)),
    ]


def _fragile(here: Here) -> tuple[str, ...]:
    """Write the plugin of the tests of NaN and return the words that use it."""
    from tests.test_nonfinite import COMMON, PLUGIN

    file = here.folder / "fragile.py"
    file.write_text(PLUGIN)
    return (f"plugins=[{file}]", *COMMON)


def _skipped(here: Here) -> dict[str, Any]:
    folder = train(here, *_fragile(here), "model.layer=6", "model.saved=false", "on_nonfinite=skip")
    skipped = _last(folder)["progress"]["skipped"]
    assert skipped == 1, f"{skipped} batches were skipped"
    return {}


def _traced(here: Here) -> dict[str, Any]:
    try:
        train(here, *_fragile(here), "model.layer=11")
    except RunError as error:
        wanted = "it began at step 11 in the output of middle (Broken)"
        assert wanted in str(error), str(error)
        return {}
    raise AssertionError("a run with NaN has ended well")


def _peaks(here: Here) -> dict[str, Any]:
    """A large run and a small one in the same process: the second does not show the memory of the first."""
    peaks = []
    for size in (128, 16):
        words = ("dataset=synthetic", f"dataset.shape=[3,{size},{size}]", "dataset.samples=200", "max_steps=2")
        folder = train(here, *words, "dataset.test_samples=20")
        peaks.append(json.loads((folder / FOLDER / "summary.json").read_text())["peak_memory_mib"])
    note = f"{peaks[0]:.0f} and {peaks[1]:.0f} MiB"
    assert not here.on_gpu or peaks[1] < peaks[0] / 2, note
    return {"note": note}


def profiled(setting: dict[str, Any]) -> list[Case]:
    here = Here.of(setting)
    return [Case(model, partial(_profiled, here, model)) for model in ("cnn", "gru", "resnet18")]


def _profiled(here: Here, model: str) -> dict[str, Any]:
    folder = train(here, *MODELS[model], "profile=true", "max_steps=34", "batch_size=16", "dataset.test_samples=20")
    run = folder / FOLDER
    table = [line for line in (run / "train.log").read_text().splitlines() if "profile " in line]
    with gzip.open(run / "profile" / "trace.json.gz", "rt") as file:
        events = json.load(file)["traceEvents"]
    count = sum(event.get("cat") == "kernel" for event in events)
    assert count or not here.on_gpu, "the trace has no kernel"
    assert "ms a step" in table[0], table
    shutil.rmtree(run / "profile")
    return {"kernels": count, "note": table[0].partition("profile  ")[2]}
