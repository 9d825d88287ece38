"""The training loop gives the numbers of a loop written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests import kills
from tests.config.test_check import plain_config
from tests.conftest import Result, Train
from trainer import build, prepare
from trainer.config import RunError
from trainer.config.check import check
from trainer.data import Normalise
from trainer.data.augment_images import OFF
from trainer.data.order import Order
from trainer.dataset.digits import digits
from trainer.engine import Engine
from trainer.processes.group import Group
from trainer.processes.signals import Interrupts
from trainer.runs.directory import RunDirectory

QUIET = ("logger=none", "log_every=1")


def losses_by_hand(steps: int, *, as_published: bool = False) -> list[float]:
    """Return the losses of the default network on digits with Adam and seed 0, from a loop written by hand.

    Args:
        steps: the number of optimizer steps.
        as_published: max-pooling after the ReLU, contiguous images and an unfused Adam; the same function with other
            rounding.
    """
    data = digits(0, val_fraction=0.15, val_seed=None, sampler="shuffle", in_memory=True, workers=0, augment=OFF)
    assert isinstance(data.normalise, Normalise)
    images = data.train.source.fetch(torch.arange(1797))[0].float()
    images = (images - data.normalise.mean.item()) / data.normalise.std.item()
    labels = data.train.source.targets
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 2 * 2, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    if not as_published:
        model[1], model[2], model[4], model[5] = model[2], model[1], model[5], model[4]
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=not as_published)
    losses: list[float] = []
    order = Order(data.train.positions, 64, 0, None)
    for positions in order.batches(0, 0)[:steps]:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[positions]), labels[positions])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def make_engine(tmp_path: Path, **changes: Any) -> Engine:
    """Return an engine on digits, built like the engine of ``run``."""
    settings = check({**plain_config(), **changes, "logger": {}, "run_dir": str(tmp_path / "run")})
    directory = RunDirectory(settings.run_dir, fixed=True)
    parts = build.assemble(settings)
    checkpoints = prepare.make_checkpoints(settings, parts, {}, directory, 1)
    engine = Engine(parts, settings, Group(), Interrupts(), checkpoints)
    directory.close()
    return engine


def test_twenty_losses_equal_a_loop_by_hand_bit_for_bit(train: Train) -> None:
    result = train(*QUIET, "max_steps=20", "optimizer.lr=1e-3")
    assert result.points("train/loss") == losses_by_hand(20)
    assert losses_by_hand(20) == pytest.approx(losses_by_hand(20, as_published=True), rel=1e-5)


def test_the_streamed_path_gives_the_same_losses(train: Train) -> None:
    words = (*QUIET, "max_steps=30", "dataset.augment.crop=1", "dataset.augment.rotate=10", "model.dropout=0.2")
    in_memory = train(*words)
    streamed = train(*words, "dataset.in_memory=false", "dataset.workers=2")
    assert in_memory.points("train/loss") == streamed.points("train/loss")
    assert in_memory.summary["test/loss"] == streamed.summary["test/loss"]


@pytest.mark.parametrize("weight", [pytest.param("null", marks=pytest.mark.slow), "balanced"])
@pytest.mark.parametrize("mixup", [pytest.param(0, marks=pytest.mark.slow), 0.4])
def test_accumulation_equals_one_batch_to_rounding(train: Train, weight: str, mixup: float) -> None:
    mixed = (f"dataset.augment.mixup={mixup}", f"dataset.augment.cutmix={mixup}")
    words = (*QUIET, "max_steps=25", f"loss.weight={weight}", "clip_norm=1.0", *mixed)
    whole, parts = train(*words), train(*words, "accumulate=4")
    assert parts.points("train/loss") == pytest.approx(whole.points("train/loss"), rel=2e-4)
    assert parts.points("gradient_norm") == pytest.approx(whole.points("gradient_norm"), rel=2e-3)


def test_accumulation_never_holds_more_than_a_part_of_the_batch(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, accumulate=3)
    sizes: list[int] = []
    engine.model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    engine.train_step(next(engine.loaders.train.epoch()))
    assert sizes == [22, 22, 20]


class CountSyncs(TorchDispatchMode):
    """Records the operations that make the host wait for the device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}, {"clip_norm": 1.0}, {"accumulate": 2}], ids=str)
def test_a_step_never_waits_for_the_device(tmp_path: Path, changes: dict[str, Any]) -> None:
    engine = make_engine(tmp_path, **changes)
    engine.optimizer = torch.optim.SGD(engine.parameters, lr=0.1)  # Adam reads its own counters, which are on the host
    batches = engine.loaders.train.epoch()
    engine.train_step(next(batches))
    with CountSyncs() as syncs:
        for batch in list(batches)[:-1]:
            engine.train_step(batch)
    assert syncs.found == []


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, clip_norm=1e-3)
    engine.optimizer = torch.optim.SGD(engine.parameters, lr=1.0)
    engine.base_lrs = [1.0]
    before = [parameter.detach().clone() for parameter in engine.parameters]
    engine.train_step(next(engine.loaders.train.epoch()))
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, engine.parameters, strict=True)]).norm()
    assert moved.item() == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("precision", [pytest.param("bf16", marks=pytest.mark.slow), "fp16"])
def test_half_precision_learns_and_keeps_full_weights(train: Train, precision: str) -> None:
    words = ("epochs=12", "model.channels=[4,8]", "model.hidden=32", "optimizer.lr=5e-3", "batch_size=256")
    result = train("logger=none", *words, f"precision={precision}")
    assert f"device   cpu (1 thread), {precision}" in result.out
    assert result.summary["test/accuracy"] > 0.8
    state = torch.load(result.run_dir / "checkpoints" / "last.pt", weights_only=True)
    assert all(tensor.dtype == torch.float32 for tensor in state["model"].values())
    assert bool(state["scaler"]) == (precision == "fp16")


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_losses_and_plain_names(train: Train) -> None:
    words = (*QUIET, "max_steps=5")
    compiled = train(*words, "compile=true")
    assert compiled.points("train/loss") == pytest.approx(train(*words).points("train/loss"), rel=1e-4)
    state = torch.load(compiled.run_dir / "checkpoints" / "last.pt", weights_only=True)
    assert not any(name.startswith("_orig_mod") for name in state["model"])


def test_the_averaged_weights_are_the_ones_evaluated_and_kept(train: Train) -> None:
    result = train("logger=none", "epochs=3", "ema=0.9")
    state = torch.load(result.run_dir / "checkpoints" / "best.pt", weights_only=True)
    kept = load_file(result.run_dir / "checkpoints" / "best.safetensors")
    assert all(torch.equal(kept[name], tensor) for name, tensor in state["ema"].items())
    assert not torch.equal(kept["out.weight"], state["model"]["out.weight"])
    assert result.summary["test/accuracy"] > 0.6


def test_patience_ends_a_run_that_no_longer_improves(train: Train) -> None:
    result = train("logger=none", "optimizer=sgd", "optimizer.lr=1e-30", "patience=2", "epochs=50")
    assert result.code == 0
    assert result.summary["epochs"] == 3
    assert result.summary["best"]["epoch"] == 1


def test_max_steps_ends_a_run_in_the_middle_of_an_epoch(train: Train) -> None:
    result = train("logger=none", "max_steps=25")
    assert (result.summary["steps"], result.summary["epochs"]) == (25, 1)
    state = torch.load(result.run_dir / "checkpoints" / "last.pt", weights_only=True)
    assert (state["progress"]["step"], state["progress"]["epoch"], state["progress"]["batch"]) == (25, 1, 4)


def test_training_on_everything_keeps_the_last_as_the_best(train: Train) -> None:
    result = train("logger=none", "epochs=2", "dataset.val_fraction=0")
    assert result.summary["best"] == {"step": 48, "epoch": 2}
    assert result.points("val/loss") == []
    assert "* best" not in result.out


def test_overfitting_a_few_batches_drives_their_loss_to_nothing(train: Train) -> None:
    result = train("logger=none", "overfit_batches=1", "epochs=60", "batch_size=32")
    assert result.summary["steps"] == 60
    assert result.summary["best"]["val/accuracy"] == 1.0
    assert result.points("train/loss")[-1] < 0.05


def test_limit_batches_shortens_every_split(train: Train) -> None:
    result = train("logger=none", "limit_batches=2", "epochs=2", "batch_size=10")
    assert result.summary["steps"] == 4


@pytest.mark.parametrize("every", ["null", "2"])
def test_a_loss_that_is_not_finite_stops_the_run_naming_the_step(train: Train, every: str) -> None:
    words = ("optimizer=sgd", "optimizer.lr=1e30", "max_steps=20", f"checkpoint.every_steps={every}")
    result = train(*words, "logger=none", "log_every=10")
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert line.startswith("train: error: the loss is ")
    assert " at step " in line
    assert result.summary["state"] == "failed"
    last = result.run_dir / "checkpoints" / "last.pt"
    if every == "null":
        assert not last.exists()
    elif last.exists():
        state = torch.load(last, weights_only=True)
        assert state["step"] < int(line.split(" at step ")[1].split()[0])


def test_the_gradient_norm_is_that_of_the_whole_gradient(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, log_every=1)
    batch = next(engine.loaders.train.epoch())
    loss = F.cross_entropy(engine.model(*batch.inputs), batch.targets)
    gradients = torch.autograd.grad(loss, engine.parameters)
    wanted = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    engine.train_step(batch)
    assert engine.window.gradient_norm.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_fp16_reports_and_clips_the_gradient_without_its_scale(train: Train) -> None:
    words = (*QUIET, "max_steps=1", "model.channels=[4]", "model.hidden=16", "clip_norm=0.5")
    half, full = train(*words, "precision=fp16"), train(*words)
    assert half.points("gradient_norm") == pytest.approx(full.points("gradient_norm"), rel=0.02)


@pytest.mark.parametrize("words", [("optimizer.lr=1e30",), ("optimizer.lr=1e38", "checkpoint.every_steps=1")], ids=str)
def test_broken_weights_are_never_a_result(train: Train, words: tuple[str, ...]) -> None:
    result = train("dataset.val_fraction=0", "optimizer=sgd", "max_steps=1", "logger=none", *words)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
    assert "NaN" not in (result.run_dir / "summary.json").read_text()
    assert result.summary["state"] == "failed"


def test_an_evaluation_leaves_the_model_training_and_reads_the_averaged_weights(tmp_path: Path) -> None:
    engine = make_engine(tmp_path, ema=0.9)
    assert engine.ema is not None
    before = engine.evaluate(engine.loaders.test).compute({})["loss"]
    with torch.no_grad():
        engine.model.get_parameter("out.bias").add_(torch.arange(10.0))
    assert engine.evaluate(engine.loaders.test).compute({})["loss"] == before
    assert engine.model.training
    plain = make_engine(tmp_path)
    plain.evaluate(plain.loaders.test)
    assert plain.model.training


class Wrong(nn.Module):
    """A model with too few outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 7)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.linear(inputs.flatten(1))
        return outputs


def test_a_model_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    engine = make_engine(tmp_path)
    engine.model = Wrong()
    with pytest.raises(RunError, match=r"the model returned \(128, 7\) for a batch of 128; the loss needs \(128, 10\)"):
        engine.fit()


def _curves(result: Result) -> list[dict[str, float]]:
    return kills.lines(result.run_dir / "metrics.jsonl")


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(train: Train) -> None:
    words = ("epochs=2", "model.dropout=0.3", "dataset.augment.crop=1", "logger=none")
    first, second, other = train(*words), train(*words), train(*words, "seed=1")
    assert _curves(first) == _curves(second)
    assert _curves(first)[0]["train/loss"] != _curves(other)[0]["train/loss"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("in_memory", ["true", "false"])
def test_a_gpu_trains_repeatably(train: Train, precision: str, in_memory: str) -> None:
    words = ("device=cuda", "epochs=8", f"precision={precision}", f"dataset.in_memory={in_memory}", "logger=none")
    first, second = train(*words), train(*words)
    assert first.summary["test/accuracy"] > 0.9
    assert _curves(first) == _curves(second)
