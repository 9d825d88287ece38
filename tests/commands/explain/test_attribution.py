"""Integrated gradients: they add up, padding has none, and they point at what decides."""

from __future__ import annotations

import csv
import dataclasses
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.made import KINDS, MODELS, Made
from trainer import compose, run
from trainer.commands.explain.attribution import (
    Attribution,
    attribute,
    name_parts,
    name_quantity,
    need_captum,
)
from trainer.commands.opened_run import OpenedRun, load
from trainer.config import ConfigError
from trainer.data.sources import Inputs

pytest.importorskip("captum")

# Along the way a network of ReLUs and poolings has corners, which a sum of 64 points meets to a part in a hundred.
EXACT = {"cnn": 0.02, "gru": 1e-5, "lstm": 1e-5}
STEPS = {"cnn": 64, "gru": 16, "lstm": 16}


def trained_on(folder: Path, *words: str) -> OpenedRun:
    """A small run, opened again."""
    run(compose(*words, f"run_dir={folder / 'run'}", "logger=none", "device=cpu"))
    return load(str(folder / "run"))


def synthetic(folder: Path, kind: str, shape: str, *words: str) -> OpenedRun:
    """A run of two steps on made data of four classes."""
    model = [word for word in words if word.startswith("model=")] or ["model=gru"]
    data = ["dataset=synthetic", f"dataset.kind={kind}", f"dataset.shape={shape}", "dataset.samples=64"]
    return trained_on(folder, *model, *data, "dataset.test_samples=16", "max_steps=2", "batch_size=16", *words)


def some(trained: OpenedRun, count: int = 4) -> Inputs:
    """Raw samples of the test split."""
    data = trained.data()
    return data.test.source.fetch(data.test.positions[:count])


def one(inputs: Inputs, at: int) -> Inputs:
    """A sample of a batch, alone and without padding."""
    if len(inputs) == 1:
        return (inputs[0][at : at + 1],)
    return inputs[0][at : at + 1, : int(inputs[1][at])], inputs[1][at : at + 1]


class Steep(nn.Module):
    """A model whose outputs leap somewhere on the way, as a recurrent network's can."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        outputs: Tensor = self.model(*inputs)
        where = inputs[0].flatten(1).square().mean(1, keepdim=True).sqrt() - 0.3
        return outputs + (where * 500).tanh() * torch.arange(outputs.shape[1])


def error(attribution: Attribution) -> float:
    """The delta as a share of all that counted, but for what float32 rounds."""
    return max(0.0, abs(attribution.delta) - 1e-6) / float(attribution.values.abs().sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS)
def test_they_add_up_and_are_the_same_alone_as_padded_in_a_batch(made: Made, model: str, kind: str) -> None:
    trained = load(str(made.run(model, kind)))
    inputs = some(trained, 3)
    found = attribute(trained, inputs, steps=STEPS[model])
    expected = trained.scores(inputs)
    assert len(found) == len(inputs[0])
    for at, each in enumerate(found):
        assert error(each) < EXACT[model]
        assert torch.equal(each.scores, expected[at])
        assert each.target == each.predicted == int(expected[at].argmax())
        probability = float(expected[at].max())
        assert each.output == pytest.approx(np.log(probability / (1 - probability)), abs=1e-3)
        if at == 0:
            (alone,) = attribute(trained, one(inputs, at), steps=STEPS[model])
            assert alone.values.shape == each.values.shape
            assert torch.allclose(alone.values, each.values, atol=1e-5 * max(1.0, float(each.values.abs().max())))
    lengths = trained.read(inputs)[1].tolist() if len(inputs) > 1 else [None] * len(found)
    if lengths[0] is not None:
        assert [len(each.values) for each in found] == lengths
        assert len({*lengths}) > 1


@pytest.mark.parametrize(("kind", "shape"), [("image", "[3,8,8]"), ("spectrogram", "[1,12,8]"), ("tokens", "[9]")])
def test_they_add_up_without_normalisation_and_vocabulary(tmp_path: Path, kind: str, shape: str) -> None:
    trained = synthetic(tmp_path, kind, shape, "model=cnn", "model.channels=[8]")
    found = attribute(trained, some(trained), steps=200)
    sizes = {"image": (8, 8), "spectrogram": (12, 8), "tokens": (9,)}
    for each in found:
        assert error(each) < EXACT["cnn"]
        assert each.values.shape == sizes[kind]
    assert len(name_parts(trained, found[0])) == (9 if kind == "tokens" else 0)


def test_more_steps_are_more_exact(made: Made) -> None:
    trained = load(str(made.run("cnn", "image")))
    inputs = some(trained, 8)
    few, many = ([error(each) for each in attribute(trained, inputs, steps=steps)] for steps in (4, 256))
    assert sum(many) < sum(few) / 4


def test_what_is_too_rough_gets_more_steps(made: Made) -> None:
    trained = load(str(made.run("gru", "sequence")))
    steep = dataclasses.replace(trained, model=Steep(trained.model))
    inputs = some(trained, 6)
    plain, enough = (attribute(steep, inputs, steps=steps) for steps in (64, None))
    assert sum(each.rough for each in plain) > 1
    assert not any(each.rough for each in enough)
    for one, other in zip(plain, enough, strict=True):
        assert one.rough or torch.equal(one.values, other.values)


def test_of_tokens_they_are_the_sum_that_the_formula_says(made: Made) -> None:
    trained = load(str(made.run("gru", "text")))
    tokens, lengths = one(some(trained), 0)
    (found,) = attribute(trained, (tokens, lengths), torch.tensor([1]))
    model = trained.model
    (embedding,) = [each for each in model.modules() if isinstance(each, nn.Embedding)]
    way = embedding(tokens) - embedding(torch.zeros_like(tokens))
    total, steps = torch.zeros_like(way), 200
    for step in range(steps):  # the midpoint rule
        point = (embedding(torch.zeros_like(tokens)) + way * (step + 0.5) / steps).requires_grad_()
        outputs = model.out(model.recurrent(point, lengths))  # type: ignore[operator]
        (gradient,) = torch.autograd.grad(outputs[0, 1] - outputs[0, 0], point)
        total += gradient
    assert torch.allclose(found.values, (way * total / steps).sum(2)[0], atol=1e-6)


LOSSES = [
    ("classification", 2, "bce", "log odds"),
    ("classification", 2, "bce_prob", "log odds"),
    ("classification", 4, "mse", "score"),
    ("multilabel", 3, "bce_prob", "log odds"),
    ("regression", 2, "huber", "value"),
]


@pytest.mark.parametrize(("task", "classes", "loss", "what"), LOSSES)
def test_every_loss_has_its_own_quantity(tmp_path: Path, task: str, classes: int, loss: str, what: str) -> None:
    words = [f"dataset.task={task}", f"dataset.classes={classes}", f"loss={loss}", "metrics=[]", "model.hidden=8"]
    trained = synthetic(tmp_path, "sequence", "[7,3]", *words)
    assert name_quantity(trained) == what
    inputs = some(trained)
    scores = trained.scores(inputs)
    for target in range(classes):
        for at, each in enumerate(attribute(trained, inputs, torch.full((4,), target))):
            assert error(each) < 1e-4
            score = float(scores[at, target])
            assert each.output == pytest.approx(np.log(score / (1 - score)) if what == "log odds" else score, abs=1e-4)
    if task == "classification" and classes == 2:
        against, for_ = (attribute(trained, inputs, torch.full((4,), target)) for target in (0, 1))
        assert all(torch.allclose(a.values, -b.values, atol=1e-6) for a, b in zip(against, for_, strict=True))
    first = {"regression": [0] * 4}.get(task, scores.argmax(1).tolist())
    assert [each.target for each in attribute(trained, inputs)] == first


def test_a_run_in_half_precision_is_explained_in_full(made: Made) -> None:
    trained = load(str(made.run("gru", "image")), words=["precision=bf16"])
    assert trained.precision == "bf16"
    assert all(error(each) < 1e-5 for each in attribute(trained, some(trained)))


def test_it_works_where_gradients_are_switched_off_and_leaves_no_trace(made: Made) -> None:
    trained = load(str(made.run("lstm", "sequence")))
    inputs = some(trained)
    expected = attribute(trained, inputs)
    before = trained.scores(inputs)
    with torch.inference_mode():
        found = attribute(trained, tuple(each.clone() for each in inputs))
        assert torch.is_inference_mode_enabled()
    assert all(torch.equal(a.values, b.values) for a, b in zip(found, expected, strict=True))
    assert torch.equal(trained.scores(inputs), before)
    assert not any(each.requires_grad or each.grad is not None for each in trained.model.parameters())


# ---- they point at what decides


def share(attribution: Attribution, where: Tensor) -> float:
    """Of all that counted, that in some places."""
    sizes = attribution.values.abs()
    return float(sizes[where].sum() / sizes.sum())


def test_of_pictures_the_region_that_decides_is_named(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x = draw.integers(60, 120, (600, 1, 16, 16)).astype(np.uint8)
    y = np.arange(600) % 2
    x[y == 0, :, 10:14, 3:7] -= 50
    x[y == 1, :, 10:14, 3:7] += 50
    np.savez(tmp_path / "data.npz", x=x, y=y)
    words = ["model=cnn", "model.channels=[8]", "dataset=npz", f"dataset.path={tmp_path / 'data.npz'}", "epochs=3"]
    trained = trained_on(tmp_path, *words)
    region = torch.zeros(16, 16, dtype=torch.bool)
    region[10:14, 3:7] = True  # 6 % of the picture
    inputs = some(trained, 20)
    assert (trained.scores(inputs).amax(1) > 0.9).all()
    shares = [share(each, region) for each in attribute(trained, inputs)]
    assert min(shares) > 0.5
    assert share(attribute(trained, inputs)[0], region.roll(8, 0)) < 0.15


def test_of_texts_the_word_that_decides_is_named(tmp_path: Path) -> None:
    draw, words = random.Random(0), ["the", "a", "film", "plot", "scene", "actor", "music", "story", "end"]
    for name, marker in (("bad", "dull"), ("good", "bright")):
        lines = [[*draw.choices(words, k=draw.randint(3, 20)), marker] for _ in range(200)]
        for line in lines:
            draw.shuffle(line)
        (tmp_path / f"{name}.txt").write_text("\n".join(map(" ".join, lines)))
    (tmp_path / "data").mkdir()
    for name in ("bad", "good"):
        (tmp_path / f"{name}.txt").rename(tmp_path / "data" / f"{name}.txt")
    data = ["dataset=text", f"dataset.path={tmp_path / 'data'}"]
    trained = trained_on(tmp_path, "model=cnn", "model.channels=[16]", *data, "epochs=6", "batch_size=16")
    inputs = some(trained, 20)
    for each in attribute(trained, inputs):
        strongest = max(name_parts(trained, each), key=lambda part: abs(part[1]))
        assert strongest[0] == ("dull", "bright")[each.predicted]
        assert strongest[1] > 0


def test_of_sequences_and_tables_the_step_and_the_column_that_decide_are_named(tmp_path: Path) -> None:
    draw = random.Random(0)
    with (tmp_path / "walks.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "quiet", "loud", "kind"])
        for number in range(300):
            for step in range(draw.randint(6, 12)):
                bump = 3 * (number % 2) * (step == 4)
                rows.writerow([number, draw.gauss(0, 1), draw.gauss(0, 0.3) + bump, "ab"[number % 2]])
    data = ["dataset=csv", f"dataset.path={tmp_path / 'walks.csv'}", "dataset.group_by=id", "dataset.target=kind"]
    trained = trained_on(tmp_path, "model=gru", "model.hidden=16", *data, "epochs=15", "batch_size=16")
    inputs = some(trained, 20)
    bumps = [each for each in attribute(trained, inputs) if each.predicted == 1]
    assert len(bumps) > 4
    for each in bumps:
        assert max(name_parts(trained, each), key=lambda part: part[1])[0] == "step 5"
        of_columns = each.values.sum(0)
        assert of_columns[1] > 5 * of_columns[0].abs()


# ---- what cannot be explained


def test_without_captum_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ConfigError, match=r"explain: needs captum .*pip install 'trainer-cli\[explain\]'"):
        need_captum()


@pytest.mark.parametrize(("count", "told"), [(0, "no"), (2, "2")])
def test_tokens_need_exactly_one_embedding(made: Made, count: int, told: str) -> None:
    trained = load(str(made.run("cnn", "text")))
    model = nn.Sequential(*[nn.Embedding(4, 2) for _ in range(count)], nn.Flatten())
    model.forward = trained.model.forward  # type: ignore[method-assign]
    message = rf"model=cnn: has {told} nn\.Embedding; to explain tokens it needs exactly one"
    with pytest.raises(ConfigError, match=message):
        attribute(dataclasses.replace(trained, model=model), some(trained))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("model", MODELS)
def test_on_a_gpu_they_are_those_of_the_cpu(made: Made, model: str) -> None:
    folder = str(made.run(model, "sequence"))
    here, there = load(folder), load(folder, words=["device=cuda", "precision=fp32"])
    inputs = some(here)
    for one, other in zip(attribute(here, inputs), attribute(there, inputs), strict=True):
        assert torch.allclose(one.values, other.values, atol=1e-4)
    assert torch.backends.cudnn.enabled
