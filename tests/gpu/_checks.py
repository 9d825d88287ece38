"""What is there, and what its kernels do: versions, dtypes, repeatability, waits for the device."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.gpu._here import Here, train
from tests.gpu._parts import Case
from tests.kills import outcome
from trainer import compose
from trainer.build import assemble
from trainer.data.augment_images import _shift_by_pixels, shift
from trainer.data.random_numbers import SampleRandom
from trainer.engine import Engine
from trainer.processes.group import Group
from trainer.processes.signals import Interrupts

PACKAGES = ("torchvision", "lightning", "accelerate", "triton", "numpy", "tensorboard", "captum", "hydra-core")
RAGGED = ("dataset=synthetic", "dataset.kind=sequence", "dataset.shape=[24,16]", "dataset.min_steps=5")
ROWS = ("dataset=synthetic", "dataset.shape=[1,28,28]")
COLOUR = ("dataset=synthetic", "dataset.shape=[3,32,32]")
RESNET = ("model=torchvision", "model.arch=resnet18")
# Each: the words, and the files in which waiting is known and has its reason there.
STEPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cnn": (("model=cnn", *ROWS), ()),
    "gru, lengths": (("model=gru", *RAGGED), ()),
    "lstm, lengths, both directions": (("model=lstm", "model.bidirectional=true", *RAGGED), ()),
    "cnn, lengths, norm": (("model=cnn", "model.norm=batch", *RAGGED), ()),
    "mixup": (("model=cnn", "dataset.augment.mixup=0.2"), ()),
    "policy": (("model=cnn", "dataset.augment.policy=trivial"), ("augment_policy.py", "image_ops.py")),
    "clip, ema, accumulate": (("model=cnn", *ROWS, "clip_norm=1.0", "ema=0.9", "accumulate=2"), ()),
}
REPEATED = {
    "cnn": (),
    "lstm, both directions": ("model=lstm", "model.bidirectional=true", "model.layers=2", "model.dropout=0.2"),
    "gru, lengths": ("model=gru", *RAGGED),
    "cnn, lengths, norm": ("model=cnn", "model.norm=batch", *RAGGED),
    "resnet18": (*RESNET, *COLOUR),
    "alexnet": ("model=torchvision", "model.arch=alexnet", "dataset=synthetic", "dataset.shape=[3,64,64]"),
}


def versions(setting: dict[str, Any]) -> list[Case]:
    return [Case("versions", partial(_versions, Here.of(setting)))]


def _versions(here: Here) -> dict[str, Any]:
    found: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__}
    found |= {
        "cores": os.cpu_count(),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 30} GiB",
    }
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    found["gcc"] = _first_line("gcc", "--version")
    if here.on_gpu:
        card = torch.cuda.get_device_properties(0)
        found |= {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "nccl": torch.cuda.nccl.version(),
        }
        found |= {"driver": _first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")}
        found |= {"card": card.name, "cards": torch.cuda.device_count(), "capability": f"{card.major}.{card.minor}"}
        free, total = torch.cuda.mem_get_info()
        found["card memory"] = f"{free >> 20:,} of {total >> 20:,} MiB free"
    note = ", ".join(f"{name} {value}" for name, value in found.items())
    print(note)
    return {**found, "note": note}


def _first_line(program: str, *words: str) -> str:
    if shutil.which(program) is None:
        return "none"
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=30, check=False)
    return (done.stdout.splitlines() or ["?"])[0]


def kernels(setting: dict[str, Any]) -> list[Case]:
    here = Here.of(setting)
    layers = [Case(f"bf16 of {model}", partial(_bf16, here, model)) for model in ("gru", "lstm", "cnn")]
    return [
        *layers,
        Case("shift, beside pixel by pixel", partial(_shift, here)),
        Case("random numbers are the CPU's", partial(_random, here)),
        Case("averaged lstm, evaluated", partial(_averaged, here)),
    ]


def memory(setting: dict[str, Any]) -> list[Case]:
    return [Case("in_memory=auto asks the card", partial(_memory, Here.of(setting)))]


def _bf16(here: Here, model: str) -> dict[str, Any]:
    """What a layer computes in under bf16, and how far its gradients are from those of float32."""
    gradients: dict[str, Tensor] = {}
    dtypes: set[torch.dtype] = set()
    for precision in ("fp32", "bf16"):
        with engine_of(here, f"model={model}", *ROWS, f"precision={precision}") as engine:
            if precision == "bf16":
                watched = (nn.RNNBase, nn.Linear, nn.Conv2d)
                for module in filter(lambda module: isinstance(module, watched), engine.model.modules()):
                    module.register_forward_hook(lambda _, __, out: dtypes.update(each.dtype for each in _tensors(out)))
            batch = next(engine.loaders.train.epoch())
            engine.forward(engine.model, batch)[1].backward()
            gradients[precision] = torch.cat(
                [each.grad.flatten() for each in engine.parameters if each.grad is not None]
            )
    apart = float((gradients["bf16"] - gradients["fp32"]).norm() / gradients["fp32"].norm())
    names = sorted(str(each).removeprefix("torch.") for each in dtypes)
    assert torch.float16 not in dtypes, f"a layer computes in float16 under bf16: {names}"
    assert apart < 0.05, f"the gradient is {apart:.3f} from that of float32"
    return {"apart": apart, "dtypes": names, "note": f"{', '.join(names)}; gradient {apart:.4f} apart"}


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


def _shift(here: Here) -> dict[str, Any]:
    size = 224 if here.on_gpu else 32
    images = torch.rand(64, 3, size, size, device=here.device)
    draws = torch.rand(64, 3, device=here.device)
    with _peak(here) as peak:
        ours = shift(images, draws, crop=4, flip=True)
    assert torch.equal(ours, _shift_by_pixels(images, draws, 4, True))
    times = peak["bytes"] / images.nbytes
    assert times < 20, f"takes {times:.0f} times the memory of its images"
    return {"times": times, "note": f"peak {times:.1f} times the images"}


@contextlib.contextmanager
def _peak(here: Here) -> Iterator[dict[str, int]]:
    """Measure the bytes that tensors on the card take at most, beyond those that are there."""
    peak = {"bytes": 0}
    if not here.on_gpu:
        yield peak
        return
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    yield peak
    peak["bytes"] = torch.cuda.max_memory_allocated() - before


def _random(here: Here) -> dict[str, Any]:
    positions = torch.arange(0, 10_000, 7)
    there, cpu = (SampleRandom(each, 3, 5) for each in (positions.to(here.device), positions))
    assert torch.equal(there.uniform("x", 5).cpu(), cpu.uniform("x", 5))
    assert torch.equal(there.others("x", positions).cpu(), cpu.others("x", positions))
    apart = float((there.normal("x", 5).cpu() - cpu.normal("x", 5)).abs().max())
    assert apart < 1e-5, f"normal numbers are {apart} apart"
    return {"normal apart": apart, "note": f"normal numbers {apart:.1e} apart"}


def _averaged(here: Here) -> dict[str, Any]:
    with _warned() as said:
        train(here, "model=lstm", "model.layers=2", *ROWS, "ema=0.9", "max_steps=6")
    told = [each for each in said if "contiguous" in each]
    assert not told, told[0]
    return {"note": "; ".join(sorted(set(said)))}


def _memory(here: Here) -> dict[str, Any]:
    """Data that the card cannot hold is streamed; its memory is taken before."""
    here.needs_card()
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(max(0, free - (1 << 30)), dtype=torch.uint8, device=here.device)
    folder = here.new()
    count = 12_000  # 1.3 GiB
    np.savez(folder / "big.npz", x=np.zeros((count, 192, 192, 3), np.uint8), y=np.arange(count) % 2)
    words = ("model.channels=[4,4,4]", "batch_size=8", "limit_batches=2", "max_steps=2")
    train(here, "dataset=npz", f"dataset.path={folder / 'big.npz'}", *words)
    return {"note": f"{taken.nbytes >> 20:,} MiB were taken"}


@contextlib.contextmanager
def _warned() -> Iterator[list[str]]:
    """Collect the warnings of a block, each in a line."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    said += [" ".join(str(each.message).split()) for each in caught]
    print(*sorted(set(said)), sep="\n")


def repeated(setting: dict[str, Any]) -> list[Case]:
    return [Case(name, partial(_repeated, Here.of(setting), words)) for name, words in REPEATED.items()]


def _repeated(here: Here, words: tuple[str, ...]) -> dict[str, Any]:
    """Train twice with all warnings shown: equal bits, and no kernel that could differ."""
    words = (*words, "max_steps=24" if here.on_gpu else "max_steps=3", "log_every=1")
    with _warned() as said:
        one, two = (outcome(train(here, *words)) for _ in range(2))
    different = [name for name in one if one[name] != two[name]]
    assert not different, f"{', '.join(different)} differ"
    unsure = [each for each in said if "determinis" in each.lower()]
    assert not unsure, unsure[0]
    return {"note": "; ".join(sorted(set(said)))}


@contextlib.contextmanager
def engine_of(here: Here, *words: str) -> Iterator[Engine]:
    """Build an engine that writes nothing, to do its steps one by one."""
    torch.compiler.reset()
    settings = compose(f"device={here.device}", *words).settings
    parts = assemble(settings)
    with contextlib.closing(parts.loaders):
        engine = Engine(parts, settings, Group(), Interrupts())
        engine.model.train()
        yield engine


def waits(setting: dict[str, Any]) -> list[Case]:
    here = Here.of(setting)
    cases = [
        Case(f"{name}{', ' + precision if precision != 'fp32' else ''}", partial(_waits, here, name, precision))
        for name in STEPS
        for precision in (("bf16", "fp32") if name in ("cnn", "gru, lengths") else ("bf16",))
    ]
    return [*cases, Case("cnn, streamed", partial(_waits, here, "cnn", "bf16", "dataset.in_memory=false"))]


def _waits(here: Here, name: str, precision: str, *more: str) -> dict[str, Any]:
    """Do ten steps after three, and count the places that wait for the device.

    torch's mode ``error`` would end at the first place; its mode ``warn`` finds the same ones, and all of them.
    """
    words, known = STEPS[name]
    places: Counter[str] = Counter()
    with engine_of(here, *words, *more, f"precision={precision}", "batch_size=64", "log_every=1000") as engine:
        batches = engine.loaders.train.epoch()
        for number in range(13):
            with _counted(places) if here.on_gpu and number >= 3 else contextlib.nullcontext():
                engine.train_step(next(batches))
        batches.close()
    note = ", ".join(f"{place} ×{count}" for place, count in places.most_common())
    new = [place for place in places if place.partition(":")[0] not in known]
    assert not new, f"waits at {note}"
    return {"waits": dict(places), "note": note if here.on_gpu else "not watched without a card"}


@contextlib.contextmanager
def _counted(places: Counter[str]) -> Iterator[None]:
    """Count where a block waits for the device: the innermost line of this project."""

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        if "called a synchronizing CUDA operation" in str(message):
            ours = [each for each in traceback.extract_stack() if f"{os.sep}trainer{os.sep}" in each.filename]
            places[f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "elsewhere"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
