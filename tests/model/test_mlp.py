"""The multi-layer perceptron, against the same network written by hand, and its embeddings of tables."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import defaults, make_spec
from trainer.model import MODELS
from trainer.model._table_layers import (
    PIECE_RATE,
    SMALL,
    EmbeddedNumbers,
    NumberEmbedding,
    Pieces,
    RatedLinear,
    TableInputs,
    Waves,
)
from trainer.model.mlp import RATE
from trainer.spec import Spec

EDGES = ((-2.0, -0.5, 0.5, 2.0), (), (0.0, 1.0))


def table(blocks: tuple[int, ...] = (2, 11), **keys: Any) -> Spec:
    """A table of three numbers, of which the first one has bins, and blocks."""
    width = len(EDGES) + sum(blocks)
    return Spec(
        "csv", "table", (width,), "classification", ("a", "b"), blocks=blocks, edges=EDGES, num_outputs=2, **keys
    )


def build(spec: Spec, **keys: Any) -> Any:
    return MODELS.build(defaults("model", "mlp", **keys), spec).eval()


def test_the_default_network_is_the_one_written_by_hand() -> None:
    model, rows = build(table()), torch.randn(5, 16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 50)
    own = dict(model.named_parameters())
    low, high = torch.tensor(EDGES[0][:-1]), torch.tensor(EDGES[0][1:])
    filled, rate = ((rows[:, :1] - low) / (high - low)).clamp(0, 1), SMALL * RATE
    number = filled @ (own["inputs.numbers.bends.0.weight"][0] * PIECE_RATE) + own["inputs.numbers.bias"][0] * rate
    number += rows[:, :1] * own["inputs.numbers.slope"][0] * rate
    frequency, phase, weight = (own[f"inputs.numbers.bends.1.{name}"][0] for name in ("frequency", "phase", "weight"))
    number += (2 * math.pi * rows[:, :1] * frequency * rate + phase * rate).cos() @ (weight * rate)
    level = rows[:, 5:] @ (own["inputs.levels.0"] * RATE)
    hidden = torch.cat([number, rows[:, 1:5], level], dim=1) * (1 + own["scale.scale"] * 6 * RATE)
    for at in range(3):
        weight, bias = own[f"layers.{at}.linear.weight"], own[f"layers.{at}.linear.bias"]
        linear = hidden @ weight * RATE / math.sqrt(len(weight)) + bias * rate
        strength = 1 + own[f"layers.{at}.rest.0.strength"] * rate
        hidden = linear + (linear * linear.sigmoid() - linear) * strength
    outputs = hidden @ own["out.weight"] * RATE / math.sqrt(256) + own["out.bias"] * rate
    torch.testing.assert_close(model(rows), outputs, rtol=1e-4, atol=1e-4)


def test_an_embedding_begins_as_a_line_and_its_pieces_bend_at_the_edges() -> None:
    pieces, x = Pieces([(0.0, 1.0, 3.0)], 1), torch.linspace(-1, 4, 101)[:, None]
    assert EmbeddedNumbers([(0.0, 1.0, 3.0)], "piecewise", 4, RATE)(x).diff(dim=0).diff(dim=0).abs().max() < 1e-5
    with torch.no_grad():
        pieces.weight.copy_(torch.tensor([[[1.0], [4.0]]]) / PIECE_RATE)
    expected = x.clamp(0, 1) + 4 * ((x - 1) / 2).clamp(0, 1)
    torch.testing.assert_close(pieces(x).squeeze(2), expected)


def test_waves_are_functions_of_the_cosines_of_a_number() -> None:
    waves, x = Waves(3, 5, RATE), torch.randn(4, 3)
    shifted = x + 1 / (waves.frequency[:, :1].T * SMALL * RATE)  # by the period of the first wave of each number
    with torch.no_grad():
        waves.weight[:, 1:] = 0
    torch.testing.assert_close(waves(x), waves(shifted), rtol=1e-3, atol=1e-4)


def test_the_first_weights_have_the_deviation_of_one_over_the_root_of_the_inputs() -> None:
    torch.manual_seed(0)
    outputs = RatedLinear(400, 2000, RATE, bias_std=0)(torch.randn(300, 400))
    assert outputs.std().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("numbers", ["both", "piecewise", "periodic", "none"])
def test_every_feature_reaches_the_first_layer_once(numbers: str) -> None:
    flat = TableInputs(table(), cast(NumberEmbedding, numbers), 8, 4, RATE)
    assert flat.parts == [8] * (numbers != "none") + [1] * (2 + (numbers == "none")) + [2, 4]
    rows = torch.randn(2, 16)
    base = flat(rows)
    assert base.shape == (2, flat.width)
    for feature in range(16):
        moved = rows.clone()
        moved[:, feature] += 1
        assert not torch.equal(flat(moved), base), feature


def test_a_table_without_edges_has_bins_of_a_normal_distribution() -> None:
    spec = Spec("npz", "table", (4,), "regression", ("y",), num_outputs=1)
    assert build(spec).inputs.numbers.bends[0].low.shape == (4, 47)
    assert build(spec)(torch.randn(3, 4)).shape == (3, 1)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_residual_and_normalised_layers_learn_in_every_form(norm: str) -> None:
    model = build(table(), norm=norm, residual=True, hidden=[32, 32, 16]).train()
    model(torch.randn(8, 16)).square().sum().backward()
    assert all(each.grad is not None for each in model.parameters())
    assert [layer.residual for layer in model.layers] == [False, True, False]


def test_padding_up_to_the_longest_sample_changes_nothing() -> None:
    spec = replace(make_spec("sequence", (9, 3)), varying=True)
    model, steps = build(spec, hidden=[16]), spec.shape[0]
    short = torch.randn(3, steps - 2, *spec.shape[1:])
    padded = F.pad(short, [0, 0, 0, 2])
    lengths = torch.full((3,), steps - 2)
    assert torch.equal(model(short, lengths), model(padded, lengths))
