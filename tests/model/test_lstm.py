"""The LSTM, against its formula step by step, and with samples of varying length."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.helpers import Cell, assert_close, defaults, double_model, last_state, make_spec
from trainer.model import MODELS
from trainer.spec import Spec

HIDDEN = 4

depths = pytest.mark.parametrize("layers", [1, 2, 3])
directions = pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "both_ways"])


def build(spec: Spec, **keys: Any) -> Any:
    torch.manual_seed(1)
    return double_model(MODELS.build(defaults("model", "lstm", hidden=HIDDEN, **keys), spec))


def lstm_cell(w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor) -> Cell:
    """Return the cell c = f ⊙ c + i ⊙ g, h = o ⊙ tanh(c); gates stacked i, f, g, o."""

    def cell(steps: Tensor) -> Tensor:
        h = c = torch.zeros(w_h.shape[1], dtype=torch.float64)
        states = []
        for x in steps:
            i, f, g, o = (w_x @ x + b_x + w_h @ h + b_h).chunk(4)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            states.append(h)
        return torch.stack(states)

    return cell


def by_formula(model: Any, samples: Tensor) -> Tensor:
    layer = model.recurrent.layer
    ways = 2 if layer.bidirectional else 1
    cells = [lstm_cell(*weights) for weights in layer.all_weights]
    layers = [cells[depth : depth + ways] for depth in range(0, len(cells), ways)]
    states = torch.stack([last_state(sample, layers) for sample in samples])
    return F.linear(states, model.out.weight, model.out.bias)


@depths
@directions
def test_lstm_follows_its_formula(layers: int, bidirectional: bool) -> None:
    model = build(make_spec("sequence", (6, 3)), layers=layers, bidirectional=bidirectional)
    samples = torch.randn(5, 6, 3, dtype=torch.float64)
    assert_close(model(samples), by_formula(model, samples))


@depths
@directions
def test_padded_sample_answers_as_it_does_alone(layers: int, bidirectional: bool) -> None:
    model = build(make_spec("sequence", (9, 3)), layers=layers, bidirectional=bidirectional)
    lengths = torch.tensor([4, 9, 1, 7, 4])
    samples = torch.randn(5, 9, 3, dtype=torch.float64)  # padding that is not zero must have no influence
    together = model(samples, lengths)
    for sample, length, answer in zip(samples, lengths, together, strict=True):
        alone = sample[None, : int(length)]
        assert_close(answer, model(alone)[0])
        assert_close(answer, model(alone, length[None])[0])
        assert_close(answer, by_formula(model, alone)[0])


@directions
def test_batch_shorter_than_the_spec_answers_as_alone(bidirectional: bool) -> None:
    model = build(make_spec("sequence", (9, 3)), bidirectional=bidirectional)
    samples, lengths = torch.randn(2, 9, 3, dtype=torch.float64), torch.tensor([3, 5])  # no sample has all 9 steps
    together = model(samples, lengths)
    assert_close(together[1], model(samples[1:, :5])[0])


@directions
def test_padding_gets_no_gradient_and_valid_steps_do(bidirectional: bool) -> None:
    model = build(make_spec("sequence", (6, 3)), layers=2, bidirectional=bidirectional)
    samples = torch.randn(3, 6, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([2, 6, 3])
    model(samples, lengths).sum().backward()
    assert samples.grad is not None
    valid = torch.arange(6) < lengths[:, None]
    assert samples.grad[valid].abs().amin() > 0
    assert not samples.grad[~valid].any()


def test_padded_tokens_answer_as_they_do_alone() -> None:
    model = build(make_spec("tokens", (7,), vocabulary=9), bidirectional=True, embedding=5)
    tokens = torch.tensor([[3, 1, 8, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7]])
    together = model(tokens, torch.tensor([3, 7]))
    assert_close(together[0], model(tokens[:1, :3])[0])
    assert_close(together[1], model(tokens[1:])[0])


def test_image_is_read_as_its_rows() -> None:
    images = torch.randn(4, 2, 6, 5, dtype=torch.float64)
    on_images, on_rows = build(make_spec("image", (2, 6, 5))), build(make_spec("sequence", (6, 10)))
    on_rows.load_state_dict(on_images.state_dict())
    rows = torch.stack([torch.stack([torch.cat([image[0, y], image[1, y]]) for y in range(6)]) for image in images])
    assert torch.equal(on_images(images), on_rows(rows))


def test_table_is_read_as_single_numbers() -> None:
    table = torch.randn(4, 6, dtype=torch.float64)
    model = build(make_spec("table", (6,)))
    assert_close(model(table), by_formula(model, table[:, :, None]))


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_acts_between_layers_and_before_the_last_one(layers: int) -> None:
    model = build(make_spec("sequence", (6, 3)), layers=layers, dropout=0.5)
    samples = torch.randn(5, 6, 3, dtype=torch.float64)
    assert model.recurrent.layer.dropout == (0.5 if layers > 1 else 0.0)
    assert torch.equal(model(samples), model(samples))
    model.train()
    assert not torch.equal(model(samples), model(samples))
    model.recurrent.eval()
    model.out.bias.data.zero_()
    model.out.weight.data.copy_(torch.eye(HIDDEN, dtype=torch.float64)[:3])  # the outputs are three of the states
    dropped, whole = model(samples), model.eval()(samples)
    kept = dropped != 0
    assert 0 < int(kept.sum()) < kept.numel()
    assert_close(dropped[kept], 2 * whole[kept])


def test_answer_ends_in_a_sigmoid_where_the_loss_wants_probabilities() -> None:
    specs = [make_spec("sequence", (6, 3), classes=2, num_outputs=1, sigmoid=sigmoid) for sigmoid in (False, True)]
    logits, probabilities = map(build, specs)  # with the same seed
    samples = torch.randn(4, 6, 3, dtype=torch.float64)
    assert torch.equal(probabilities(samples), logits(samples).sigmoid())


@directions
def test_half_precision_is_float32_where_there_is_no_half(bidirectional: bool) -> None:
    model = build(make_spec("sequence", (6, 3)), bidirectional=bidirectional).float()
    samples = torch.randn(2, 6, 3)
    with torch.autocast("cpu", torch.float16):
        half = model(samples)
    torch.testing.assert_close(half.float(), model(samples), rtol=0, atol=1e-2)
