"""NaN and infinite values: the error names their origin, checkpoints stay good, and batches can be skipped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import kills
from tests.conftest import Result, Train
from tests.shell import TRAIN, run
from trainer.data.augment_images import OFF
from trainer.dataset.digits import digits

PLUGIN = '''
import torch
from torch import nn

from trainer.config import NonNegativeInt
from trainer.data import Data, Split, TensorSource
from trainer.dataset import DATASETS
from trainer.model import MODELS
from trainer.spec import Spec


class Read:
    """A source that is read by a DataLoader."""

    def __init__(self, source):
        self.source, self.targets = source, source.targets

    def fetch(self, positions):
        return self.source.fetch(positions)


@DATASETS.register
def poisoned(seed: int, *, samples: list[int] = [], value: str = "nan", workers: NonNegativeInt = 0,
             in_memory: bool = True) -> Data:
    """Three classes of eight numbers; some training samples hold a NaN or infinite value."""
    draw = torch.Generator().manual_seed(0)
    targets = torch.arange(640) % 3
    inputs = torch.randn(640, 8, generator=draw) + targets.unsqueeze(1)
    for sample in samples:
        inputs[sample, 3] = float(value)
    source = TensorSource((inputs,), targets)
    splits = [Split(source if in_memory else Read(source), each) for each in torch.arange(640).split([512, 64, 64])]
    spec = Spec("poisoned", "table", (8,), "classification", ("a", "b", "c"))
    return Data(spec, *splits, in_memory=in_memory, workers=workers)


class Broken(nn.Module):
    """Multiplies its n-th input by a NaN or infinite value."""

    def __init__(self, first, then, saved):
        super().__init__()
        self.first, self.then = first or -1, then
        zero = torch.zeros((), dtype=torch.int64)
        self.seen = nn.Buffer(zero) if saved else zero

    def forward(self, inputs):
        if self.training:
            self.seen += 1
        return inputs * torch.where(self.seen == self.first, float(self.then), 1.0)


class Root(torch.autograd.Function):
    """The identity, with an infinite gradient."""

    @staticmethod
    def forward(context, inputs, broken):
        context.broken = broken
        return inputs.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.where(context.broken, float("inf"), 1.0), None


@MODELS.register
class Fragile(nn.Module):
    """A network in which one layer breaks at a given step."""

    def __init__(self, spec: Spec, *, layer: NonNegativeInt = 0, gradient: NonNegativeInt = 0, dropout: float = 0.2,
                 saved: bool = True):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout))
        self.middle = Broken(layer, "inf", saved)
        self.last = nn.Linear(16, spec.num_outputs)
        self.gradient = gradient
        zero = torch.zeros((), dtype=torch.int64)
        self.steps = nn.Buffer(zero) if saved else zero

    def forward(self, inputs):
        hidden = self.middle(self.first(inputs))
        if self.training:
            self.steps += 1
        hidden = Root.apply(hidden, self.steps == self.gradient)
        return self.last(hidden)
'''
PLAIN: dict[str, Any] = {
    "val_fraction": 0.15,
    "val_seed": None,
    "sampler": "shuffle",
    "in_memory": True,
    "workers": 0,
    "augment": OFF,
}
COMMON = ("model=fragile", "dataset=poisoned", "batch_size=32", "epochs=3", "checkpoint.every_steps=4", "logger=none")


@pytest.fixture
def fragile(train: Train, tmp_path: Path, forgets: None) -> Train:
    """Train ``fragile("dataset.samples=[5]", …)``: 16 steps in an epoch, a checkpoint every 4, a log point every 50."""
    plugin = tmp_path / "fragile.py"
    plugin.write_text(PLUGIN)

    def run(*words: str) -> Result:
        return train(f"plugins=[{plugin}]", *COMMON, *words)

    return run


def failed(result: Result) -> str:
    """Return the one line of a failed run, and check that the last checkpoint is good."""
    assert result.code == 1, result.err
    (line,) = result.err.splitlines()
    assert result.summary["state"] == "failed"
    assert (
        line
        == f"train: error: {result.summary['reason']} (the log: {result.run_dir.relative_to(result.folder)}/train.log)"
    )
    return line


def last(result: Result) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(result.run_dir / "checkpoints" / "last.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state["model"].values())
    return state


@pytest.mark.parametrize("path", [(), ("dataset.in_memory=false", "dataset.workers=2")])
def test_a_sample_that_is_no_number_is_named(fragile: Train, path: tuple[str, ...]) -> None:
    line = failed(result := fragile("dataset.samples=[149]", *path))
    found = re.match(
        r"train: error: the loss is nan at step (\d+); it began at step (\d+) in the data itself; (.*) \(", line
    )
    assert found is not None, line
    assert (found[1], found[3]) == (found[2], "sample 149")
    step = int(found[1])
    assert last(result)["step"] == (step - 1) // 4 * 4  # the newest from before it
    assert f"step {step}, in the data itself: samples [149]" in (result.run_dir / "train.log").read_text()


def test_the_first_layer_that_went_wrong_is_named_with_the_samples_of_its_batch(fragile: Train) -> None:
    line = failed(result := fragile("model.layer=11"))
    assert line.startswith(
        "train: error: the loss is nan at step 11; it began at step 11 in the output of middle (Broken); samples "
    )
    assert "(32 in all)" in line
    assert last(result)["step"] == 8


def test_a_gradient_that_is_none_is_named_by_its_parameter(fragile: Train) -> None:
    line = failed(result := fragile("model.gradient=6"))
    assert "it began at step 6 in the gradient of first.1.bias, of a finite loss; samples " in line
    assert last(result)["step"] == 4


def test_weights_that_a_step_has_sent_away_are_seen_in_the_first_layer_that_uses_them(fragile: Train) -> None:
    line = failed(fragile("optimizer=sgd", "optimizer.lr=1e38", "checkpoint.every_steps=null"))
    assert "it began at step 2 in the output of first.0 (Linear)" in line


def test_where_it_began_is_found_without_any_checkpoint_and_with_one_in_the_background(fragile: Train) -> None:
    line = failed(result := fragile("model.layer=3"))
    assert "it began at step 3 in the output of middle (Broken)" in line
    assert not (result.run_dir / "checkpoints").exists()
    line = failed(result := fragile("model.layer=11", "checkpoint.async=true", "accumulate=2"))
    assert "at step 6 in the output of middle (Broken); samples " in line  # the 11th forward pass
    assert last(result)["step"] == 4


LOSS = """
import torch
from trainer.loss import LOSSES
from trainer.loss.cross_entropy import CrossEntropy


@LOSSES.register
class Sometimes(CrossEntropy):
    \"""Cross entropy, and NaN for a batch that begins with the first class.\"""

    def __init__(self, spec):
        super().__init__(spec, label_smoothing=0.0, weight=None)

    def forward(self, outputs, targets):
        mean = super().forward(outputs, targets)
        return mean * torch.where((targets[0] == 0) & outputs.requires_grad, float("nan"), 1.0)
"""


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_loss_that_is_none_is_told_from_its_gradient_and_its_micro_batch_named(
    train: Train, tmp_path: Path, forgets: None, precision: str, accumulate: int
) -> None:
    (tmp_path / "sometimes.py").write_text(LOSS)
    words = (f"plugins=[{tmp_path / 'sometimes.py'}]", "loss=sometimes", "logger=none", "epochs=1", "batch_size=16")
    result = train(*words, f"precision={precision}", f"accumulate={accumulate}")
    found = re.search(
        r"the loss is nan at step (\d+); it began at step \1 in the loss, of finite outputs; samples", result.err
    )
    assert (result.code, found is not None) == (1, True), result.err
    (numbers,) = re.findall(
        r"in the loss, of finite outputs: samples \[(.*)\]", (result.run_dir / "train.log").read_text()
    )
    assert len(numbers.split(", ")) == 16 / accumulate


@pytest.mark.slow
def test_samples_of_a_loss_that_is_none_are_those_of_one_process(tmp_path: Path) -> None:
    (tmp_path / "sometimes.py").write_text(LOSS)
    words = ("plugins=[sometimes.py]", "loss=sometimes", "logger=none", "epochs=1", "batch_size=16", "log_every=1")
    code, _, errors = run([*TRAIN, *words, "device=ddp", "device.processes=2", "run_dir=run"], tmp_path)
    assert (code, "in the loss, of finite outputs; samples" in errors) == (1, True), errors
    (numbers,) = re.findall(r"of finite outputs: samples \[(.*)\]", (tmp_path / "run" / "train.log").read_text())
    positions = [int(number) for number in numbers.split(", ")]
    assert len(positions) == 8
    assert int(digits(0, **PLAIN).train.source.targets[positions[0]]) == 0  # where the loss is NaN


def test_in_a_later_epoch_after_going_on_it_is_found_too(fragile: Train) -> None:
    words = ("model.layer=39", "run_dir=here")
    first = fragile(*words, "max_steps=20")
    assert first.code == 0
    result = fragile("model.layer=39", f"run_dir={first.folder / 'here'}", "resume=auto")
    assert "at step 39 in the output of middle (Broken)" in result.err


def test_a_val_loss_that_is_none_ends_the_run_and_keeps_the_best(fragile: Train) -> None:
    result = fragile("dataset.samples=[520]")  # of val
    assert failed(result).startswith("train: error: the val loss is nan after step 16 (the log: ")
    assert last(result)["step"] == 16  # saved before val was looked at


@pytest.mark.parametrize("words", [("model.layer=5",), ("model.gradient=5",), ("model.layer=5", "accumulate=2")])
def test_skip_leaves_the_batch_out_and_counts_it(fragile: Train, words: tuple[str, ...]) -> None:
    result = fragile(*words, "model.saved=false", "on_nonfinite=skip")  # else that it broke would be undone too
    assert result.code == 0, result.err
    assert (result.summary["skipped"], result.summary["steps"]) == (1, 48)
    what = "gradient" if "gradient" in words[0] else "loss"
    step = 3 if "accumulate=2" in words else 5
    assert result.out.count(f"warning  skipped step {step}: its {what} is NaN or inf: samples ") == 1
    last(result)


@pytest.mark.parametrize("every", [1, 50])
def test_skip_takes_every_batch_with_a_bad_sample_as_if_it_were_not_there(fragile: Train, every: int) -> None:
    result = fragile("dataset.samples=[5,6]", "on_nonfinite=skip", "ema=0.9", f"log_every={every}")
    assert result.code == 0, result.err
    left_out = re.findall(r"skipped step (\d+): its loss is NaN or inf: samples ([\d, …]*)", result.out)
    assert result.summary["skipped"] == len(left_out) and 3 <= len(left_out) <= 6
    assert all({"5", "6"} & set(numbers.split(", ")) for _, numbers in left_out if "…" not in numbers)
    losses = result.points("train/loss")
    assert len(losses) == (3 if every == 50 else result.summary["steps"])
    without = [loss for loss in losses if loss is None or loss != loss]  # where a window has no other step
    assert len(without) == (0 if every == 50 else len(left_out))


def test_skip_without_a_need_changes_nothing(fragile: Train) -> None:
    assert kills.plain(last(fragile("on_nonfinite=skip"))["model"]) == kills.plain(last(fragile())["model"])


def test_skip_goes_on_exactly_after_a_stop(fragile: Train) -> None:
    words = ("dataset.samples=[5,200]", "on_nonfinite=skip", "run_dir=here")
    whole = fragile(*words)
    part = fragile(*words, "max_steps=21")
    rest = fragile(*words[:-1], f"run_dir={part.folder / 'here'}", "resume=auto")
    assert rest.code == 0, rest.err
    states = [torch.load(each.folder / "here" / "checkpoints" / "last.pt", weights_only=True) for each in (whole, part)]
    assert states[0]["progress"]["skipped"] == states[1]["progress"]["skipped"] > 0
    assert kills.plain(states[0]["model"]) == kills.plain(states[1]["model"])


def test_skip_ends_where_nothing_is_learned_any_more(fragile: Train) -> None:
    result = fragile(f"dataset.samples=[{','.join(map(str, range(512)))}]", "on_nonfinite=skip", "batch_size=8")
    assert "at step 50: skipped 50 batches in a row, their loss is NaN or inf" in failed(result)


def test_fp16_looks_at_its_gradients_itself_and_skips_as_it_always_does(fragile: Train) -> None:
    result = fragile("precision=fp16", "model.layer=5", "model.saved=false", "on_nonfinite=skip")
    assert (result.code, result.summary["skipped"]) == (0, 1), result.err


@pytest.mark.parametrize("word", ["on_nonfinite=ignore", "on_nonfinite=null"])
def test_what_else_could_be_asked_for_is_refused(train: Train, word: str) -> None:
    result = train(word)
    assert (result.code, "train: error: on_nonfinite: must be one of stop, skip" in result.err) == (2, True), result.err


def test_the_place_is_searched_from_the_last_good_checkpoint_on(fragile: Train, tmp_path: Path) -> None:
    result = fragile("model.layer=43", "log_every=1")
    assert "repeating the steps from step 41 on" in (result.run_dir / "train.log").read_text()
