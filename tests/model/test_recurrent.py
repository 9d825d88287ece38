"""The LSTM and both kinds of GRU, against their formulas step by step, and with samples of varying length."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.helpers import Cell, assert_close, defaults, double_model, last_state, make_spec
from trainer.model import MODELS
from trainer.model._recurrent import Layers, pack, reverse_valid, run_by_cell, run_by_torch
from trainer.model.gru import PackedGRU, ResetBeforeGRU
from trainer.model.lstm import PaddedLSTM
from trainer.spec import Spec

HIDDEN = 4

KINDS: dict[str, dict[str, Any]] = {
    "lstm": {"name": "lstm"},
    "reset_after": {"name": "gru", "reset_after": True},
    "reset_before": {"name": "gru", "reset_after": False},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
both_grus = pytest.mark.parametrize("reset_after", [True, False], ids=["reset_after", "reset_before"])
depths = pytest.mark.parametrize("layers", [1, 2, 3])
padded = pytest.mark.parametrize("lengths", [None, [2, 4, 1]], ids=["whole", "padded"])
directions = pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "both_ways"])


def build(kind: str, spec: Spec, **keys: Any) -> Any:
    torch.manual_seed(1)
    return double_model(MODELS.build(defaults("model", hidden=HIDDEN, **KINDS[kind], **keys), spec))


def layers_of(
    reset_after: bool, width: int, hidden: int, layers: int, bidirectional: bool
) -> PackedGRU | ResetBeforeGRU:
    torch.manual_seed(0)
    if not reset_after:
        return ResetBeforeGRU(width, hidden, layers, dropout=0.0, bidirectional=bidirectional).double()
    return PackedGRU(width, hidden, layers, batch_first=True, bidirectional=bidirectional).double()


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


def reset_after_cell(w_in: Tensor, w_h: Tensor, b_in: Tensor, b_h: Tensor) -> Cell:
    """Return torch's and cuDNN's cell: n = tanh(W_in x + b_in + r ⊙ (W_hn h + b_hn)); gates stacked r, z, n."""
    (w_ir, w_iz, w_n), (w_hr, w_hz, w_hn) = w_in.chunk(3), w_h.chunk(3)
    (b_ir, b_iz, b_n), (b_hr, b_hz, b_hn) = b_in.chunk(3), b_h.chunk(3)

    def cell(steps: Tensor) -> Tensor:
        h, states = torch.zeros(w_h.shape[1], dtype=torch.float64), []
        for x in steps:
            r = torch.sigmoid(w_ir @ x + b_ir + w_hr @ h + b_hr)
            z = torch.sigmoid(w_iz @ x + b_iz + w_hz @ h + b_hz)
            n = torch.tanh(w_n @ x + b_n + r * (w_hn @ h + b_hn))
            h = (1 - z) * n + z * h
            states.append(h)
        return torch.stack(states)

    return cell


def reset_before_cell(w_in: Tensor, w_h: Tensor, bias: Tensor) -> Cell:
    """Return the cell of Cho et al. 2014: h̃ = tanh(W [r ⊙ h, x] + b)."""
    w_r, w_z, w = (torch.cat([on_h, on_x], dim=1) for on_h, on_x in zip(w_h.chunk(3), w_in.chunk(3), strict=True))
    b_r, b_z, b = bias.chunk(3)

    def cell(steps: Tensor) -> Tensor:
        h, states = torch.zeros(w_h.shape[1], dtype=torch.float64), []
        for x in steps:
            r = torch.sigmoid(w_r @ torch.cat([h, x]) + b_r)
            z = torch.sigmoid(w_z @ torch.cat([h, x]) + b_z)
            candidate = torch.tanh(w @ torch.cat([r * h, x]) + b)
            h = (1 - z) * candidate + z * h
            states.append(h)
        return torch.stack(states)

    return cell


def cells_of(recurrent: Any) -> list[list[Cell]]:
    """Return a cell written as formulas for each layer and direction, with the weights of the layers."""
    if isinstance(recurrent, ResetBeforeGRU):
        return [
            [reset_before_cell(*cell.parameters()) for cell in layer.children()]  # weight_ih, weight_hh, bias
            for layer in recurrent.cells
        ]
    ways = 2 if recurrent.layer.bidirectional else 1
    make = lstm_cell if isinstance(recurrent.layer, nn.LSTM) else reset_after_cell
    cells = [make(*each) for each in recurrent.layer.all_weights]
    return [cells[depth : depth + ways] for depth in range(0, len(cells), ways)]


def by_formula(model: Any, samples: Tensor) -> Tensor:
    states = torch.stack([last_state(sample, cells_of(model.recurrent)) for sample in samples])
    return F.linear(states, model.out.weight, model.out.bias)


@every_kind
@depths
@directions
def test_layers_follow_their_formula(kind: str, layers: int, bidirectional: bool) -> None:
    model = build(kind, make_spec("sequence", (6, 3)), layers=layers, bidirectional=bidirectional)
    assert isinstance(model.recurrent, ResetBeforeGRU) == (kind == "reset_before")
    samples = torch.randn(5, 6, 3, dtype=torch.float64)
    assert_close(model(samples), by_formula(model, samples))


def test_both_grus_differ_with_the_same_weights() -> None:
    before, after = (build(kind, make_spec("sequence", (6, 3))) for kind in ("reset_before", "reset_after"))
    cell, layer = before.recurrent.cells[0][0], after.recurrent.layer
    with torch.no_grad():
        layer.weight_ih_l0.copy_(cell.weight_ih)
        layer.weight_hh_l0.copy_(cell.weight_hh)
        layer.bias_ih_l0.copy_(cell.bias)
        layer.bias_hh_l0.zero_()
        after.out.load_state_dict(before.out.state_dict())
    samples = torch.randn(5, 6, 3, dtype=torch.float64)
    assert (before(samples) - after(samples)).abs().max() > 1e-4
    # after one step from a zero state the reset gate has no effect
    assert_close(before(samples[:, :1]), after(samples[:, :1]))


@pytest.mark.parametrize(("kind", "biases"), [("reset_after", 2), ("reset_before", 1)])
def test_parameters_are_as_many_as_the_formula_has(kind: str, biases: int) -> None:
    model = build(kind, make_spec("sequence", (6, 3)), layers=2, bidirectional=True)
    first, second = (3 * HIDDEN * (width + HIDDEN + biases) for width in (3, 2 * HIDDEN))
    last = 3 * (2 * HIDDEN + 1)
    assert sum(parameter.numel() for parameter in model.parameters()) == 2 * first + 2 * second + last


def test_reset_before_starts_as_torch_starts_its_layers() -> None:
    layer = ResetBeforeGRU(3, 64, 2, dropout=0.0, bidirectional=True)
    for parameter in layer.parameters():
        assert 0.9 / 8 < float(parameter.detach().abs().max()) <= 1 / 8  # uniform within ±1/√hidden
        assert abs(float(parameter.detach().mean())) < 0.03


@every_kind
@depths
@directions
def test_padded_sample_answers_as_it_does_alone(kind: str, layers: int, bidirectional: bool) -> None:
    model = build(kind, make_spec("sequence", (9, 3)), layers=layers, bidirectional=bidirectional)
    lengths = torch.tensor([4, 9, 1, 7, 4])
    samples = torch.randn(5, 9, 3, dtype=torch.float64)  # padding that is not zero must have no influence
    together = model(samples, lengths)
    for sample, length, answer in zip(samples, lengths, together, strict=True):
        alone = sample[None, : int(length)]
        assert_close(answer, model(alone)[0])
        assert_close(answer, model(alone, length[None])[0])
        assert_close(answer, by_formula(model, alone)[0])


@every_kind
@directions
def test_batch_shorter_than_the_spec_answers_as_alone(kind: str, bidirectional: bool) -> None:
    model = build(kind, make_spec("sequence", (9, 3)), bidirectional=bidirectional)
    samples, lengths = torch.randn(2, 9, 3, dtype=torch.float64), torch.tensor([3, 5])  # no sample has all 9 steps
    together = model(samples, lengths)
    assert_close(together[1], model(samples[1:, :5])[0])


@every_kind
@directions
def test_padding_gets_no_gradient_and_valid_steps_do(kind: str, bidirectional: bool) -> None:
    model = build(kind, make_spec("sequence", (6, 3)), layers=2, bidirectional=bidirectional)
    samples = torch.randn(3, 6, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([2, 6, 3])
    model(samples, lengths).sum().backward()
    assert samples.grad is not None
    valid = torch.arange(6) < lengths[:, None]
    assert samples.grad[valid].abs().amin() > 0
    assert not samples.grad[~valid].any()


@every_kind
def test_padded_tokens_answer_as_they_do_alone(kind: str) -> None:
    model = build(kind, make_spec("tokens", (7,), vocabulary=9), bidirectional=True, embedding=5)
    tokens = torch.tensor([[3, 1, 8, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7]])
    together = model(tokens, torch.tensor([3, 7]))
    assert_close(together[0], model(tokens[:1, :3])[0])
    assert_close(together[1], model(tokens[1:])[0])


@every_kind
def test_image_is_read_as_its_rows(kind: str) -> None:
    images = torch.randn(4, 2, 6, 5, dtype=torch.float64)
    on_images, on_rows = build(kind, make_spec("image", (2, 6, 5))), build(kind, make_spec("sequence", (6, 10)))
    on_rows.load_state_dict(on_images.state_dict())
    rows = torch.stack([torch.stack([torch.cat([image[0, y], image[1, y]]) for y in range(6)]) for image in images])
    assert torch.equal(on_images(images), on_rows(rows))


@every_kind
def test_table_is_read_as_single_numbers(kind: str) -> None:
    table = torch.randn(4, 6, dtype=torch.float64)
    model = build(kind, make_spec("table", (6,)))
    assert_close(model(table), by_formula(model, table[:, :, None]))


def test_reset_before_drops_between_its_layers_in_training() -> None:
    model = build("reset_before", make_spec("sequence", (6, 3)), layers=2, dropout=0.5)
    samples = torch.randn(5, 6, 3, dtype=torch.float64)
    (first,), (second,) = cells_of(model.recurrent)
    model.train()
    model.head.eval()
    torch.manual_seed(2)
    dropped = model(samples)
    torch.manual_seed(2)
    between = F.dropout(torch.stack([first(sample) for sample in samples], dim=1).flatten(0, 1), 0.5).view(6, 5, -1)
    states = torch.stack([second(steps)[-1] for steps in between.unbind(1)])
    assert_close(dropped, F.linear(states, model.out.weight, model.out.bias))
    assert (dropped - model.eval()(samples)).abs().max() > 1e-4


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_of_the_lstm_acts_between_its_layers_too(layers: int) -> None:
    model = build("lstm", make_spec("sequence", (6, 3)), layers=layers, dropout=0.5)
    samples = torch.randn(5, 6, 3, dtype=torch.float64)
    assert model.recurrent.layer.dropout == (0.5 if layers > 1 else 0.0)
    assert torch.equal(model(samples), model(samples))
    model.train()
    assert not torch.equal(model(samples), model(samples))


@every_kind
def test_dropout_acts_before_the_last_layer_in_training_only(kind: str) -> None:
    model = build(kind, make_spec("sequence", (6, 3), classes=HIDDEN), dropout=0.5)
    with torch.no_grad():
        model.out.weight.copy_(torch.eye(HIDDEN))  # the outputs are the states
        model.out.bias.zero_()
        samples = torch.randn(50, 6, 3, dtype=torch.float64)
        whole = model(samples)
        dropped = model.train()(samples)
    kept = dropped != 0
    assert 50 < int(kept.sum()) < 150  # of 200: seven standard deviations
    assert_close(dropped[kept], 2 * whole[kept])


@every_kind
def test_answer_ends_in_a_sigmoid_where_the_loss_wants_probabilities(kind: str) -> None:
    specs = [make_spec("sequence", (6, 3), classes=2, num_outputs=1, sigmoid=sigmoid) for sigmoid in (False, True)]
    logits, probabilities = (build(kind, spec) for spec in specs)  # built with the same seed
    samples = torch.randn(4, 6, 3, dtype=torch.float64)
    assert torch.equal(probabilities(samples), logits(samples).sigmoid())


@both_grus
@pytest.mark.parametrize("bidirectional", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("lengths", [pytest.param(None, marks=pytest.mark.slow), [2, 4, 1]])
def test_gradients_are_those_of_differences(reset_after: bool, bidirectional: bool, lengths: list[int] | None) -> None:
    layer = layers_of(reset_after, 3, 2, 2, bidirectional)
    names = [name for name, _ in layer.named_parameters()]
    size = None if lengths is None else torch.tensor(lengths)

    def states(steps: Tensor, *weights: Tensor) -> Tensor:
        result = torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (steps, size))
        assert isinstance(result, Tensor)
        return result

    steps = torch.randn(3, 4, 3, dtype=torch.float64, requires_grad=True)
    weights = [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()]
    assert torch.autograd.gradcheck(states, (steps, *weights))


@depths
@directions
@padded
def test_steps_of_our_own_are_those_of_torch(layers: int, bidirectional: bool, lengths: list[int] | None) -> None:
    layer = layers_of(True, 3, HIDDEN, layers, bidirectional)
    assert isinstance(layer, PackedGRU)
    size = None if lengths is None else torch.tensor(lengths)
    weights = list(layer.parameters())
    results = []
    for forward in (
        layer.forward,
        lambda steps, size: run_by_torch(partial(nn.GRU.forward, layer), layer, steps, size),
    ):
        steps = torch.randn(3, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        last = forward(steps, size)
        towards = torch.arange(last.numel(), dtype=torch.float64).view_as(last)
        results.append([last, *torch.autograd.grad((last * towards).sum(), [steps, *weights])])
    for ours, theirs in zip(*results, strict=True):
        assert_close(ours, theirs)


@both_grus
@directions
@padded
def test_compiled_steps_are_the_same(
    reset_after: bool, bidirectional: bool, lengths: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = layers_of(reset_after, 3, HIDDEN, 2, bidirectional)
    steps, size = torch.randn(3, 4, 3, dtype=torch.float64), None if lengths is None else torch.tensor(lengths)
    packed = layer(steps, size)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert_close(layer(steps, size), packed)


@both_grus
def test_steps_are_float32_under_autocast(reset_after: bool) -> None:
    layer = layers_of(reset_after, 3, HIDDEN, 1, False).float()
    steps = torch.randn(5, 6, 3)
    with torch.autocast("cpu", torch.bfloat16):
        last = layer(steps, None)
    assert last.dtype == torch.float32
    torch.testing.assert_close(last, layer(steps, None), rtol=0, atol=0.02)
    last.sum().backward()
    assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in layer.parameters())


@both_grus
def test_a_graph_that_is_kept_gives_the_same_gradient_again(reset_after: bool) -> None:
    layer = layers_of(reset_after, 3, HIDDEN, 1, False)
    last = layer(torch.randn(5, 6, 3, dtype=torch.float64), None).sum()
    first, again = (torch.autograd.grad(last, list(layer.parameters()), retain_graph=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


@directions
@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_of_the_lstm_is_float32_where_the_processor_has_none(
    precision: torch.dtype, bidirectional: bool
) -> None:
    model = build("lstm", make_spec("sequence", (6, 3)), bidirectional=bidirectional).float()
    samples = torch.randn(2, 6, 3)
    with torch.autocast("cpu", precision):
        half = model(samples)
        half.sum().backward()
    torch.testing.assert_close(half.float(), model(samples), rtol=0, atol=1e-2)


def torch_modules(**options: Any) -> list[PaddedLSTM | PackedGRU]:
    """Return both of torch's recurrent layers."""
    return [kind(3, HIDDEN, 2, batch_first=True, **options) for kind in (PaddedLSTM, PackedGRU)]


def packed_states(layer: PaddedLSTM | PackedGRU, steps: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the last states of the last layer from torch's own method, in one call for all layers."""
    kind = nn.LSTM if isinstance(layer, PaddedLSTM) else nn.GRU
    states: Any = kind.forward(layer, pack(steps, lengths))[1]  # type: ignore[arg-type]
    states = states[0] if isinstance(states, tuple) else states
    return torch.cat(list(states[-1 - layer.bidirectional :]), dim=1)


@directions
@padded
def test_cell_by_cell_gives_the_states_and_gradients_of_torch(bidirectional: bool, lengths: list[int] | None) -> None:
    size = None if lengths is None else torch.tensor(lengths)
    for layer in torch_modules(bidirectional=bidirectional):
        layer.double()
        results = []
        for last_states in (run_by_cell, packed_states):
            steps = torch.randn(3, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
            last = last_states(layer, steps.requires_grad_(), size)
            towards = torch.arange(last.numel(), dtype=torch.float64).view_as(last)
            results.append([last, *torch.autograd.grad((last * towards).sum(), [steps, *layer.parameters()])])
        for ours, theirs in zip(*results, strict=True):
            assert_close(ours, theirs)


def test_dropout_between_layers_on_a_gpu_draws_from_the_state_that_a_checkpoint_has() -> None:
    for layer in torch_modules(dropout=0.5):
        assert layer.by_cell
        torch.manual_seed(0)
        before, first = torch.get_rng_state(), run_by_cell(layer, torch.ones(2, 5, 3), None)
        assert not torch.equal(run_by_cell(layer, torch.ones(2, 5, 3), None), first)
        torch.set_rng_state(before)
        assert torch.equal(run_by_cell(layer, torch.ones(2, 5, 3), None), first)


@pytest.mark.parametrize(
    ("options", "varying", "sizes"),
    [
        ({"bidirectional": True}, False, [16]),
        ({"bidirectional": True}, True, [4] * 4),
        ({"dropout": 0.5}, False, [4] * 2),
        ({}, True, [8]),
    ],
)
def test_the_weights_of_each_call_of_cudnn_lie_together(
    options: dict[str, Any], varying: bool, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (PaddedLSTM, PackedGRU):
        layer = Layers(kind, 3, HIDDEN, 2, varying=varying, **options).layer
        joined: list[list[Tensor]] = []
        monkeypatch.setattr(
            nn.RNNBase, "flatten_parameters", lambda self, joined=joined: joined.append(self._flat_weights)
        )
        layer.flatten_parameters()
        joined = [weights for weights in joined if weights[0].device.type != "meta"]  # none of a new module
        assert [len(weights) for weights in joined] == sizes
        assert [id(each) for weights in joined for each in weights] == [id(each) for each in layer._flat_weights]
        monkeypatch.undo()


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_layers_on_a_gpu_are_float32_under_autocast_to_bf16(
    precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[torch.dtype, bool]] = []
    before = torch.get_autocast_dtype("cuda")
    for kind in (PaddedLSTM, PackedGRU):
        layers = Layers(kind, 3, HIDDEN, 2)
        monkeypatch.setattr(
            layers.layer, "forward", lambda steps, _: called.append((steps.dtype, torch.is_autocast_enabled("cuda")))
        )
        try:
            torch.set_autocast_enabled("cuda", True)  # torch.autocast does nothing where there is no GPU
            torch.set_autocast_dtype("cuda", precision)
            with FakeTensorMode():
                layers(torch.empty(2, 5, 3, device="cuda", dtype=precision), None)
        finally:
            torch.set_autocast_enabled("cuda", False)
            torch.set_autocast_dtype("cuda", before)
    assert called == [(torch.float32, False) if precision == torch.bfloat16 else (precision, True)] * 2


def test_steps_that_are_compiled_are_float32_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layers_of(False, 3, HIDDEN, 2, True).float()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(5, 6, 3), torch.tensor([6, 2, 3, 1, 6])).dtype == torch.float32


def test_gradient_of_reversed_steps_is_that_of_small_differences() -> None:
    sequence, lengths = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True), torch.tensor([2, 4, 1])
    assert torch.autograd.gradcheck(lambda steps: reverse_valid(steps, lengths), sequence)
    graph = str(reverse_valid(sequence, lengths).grad_fn)
    assert "Gather" not in graph  # whose deterministic gradient sorts all indices
