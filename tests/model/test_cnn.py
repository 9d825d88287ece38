"""The convolutional network, against the same network written by hand and against sums written out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers import assert_close, defaults, double_model, image_spec, make_spec
from trainer.config import ConfigError
from trainer.data.sources import keep, valid_steps
from trainer.model import MODELS
from trainer.model.cnn import _over_valid, _over_valid_by_mask
from trainer.spec import Spec


def build(spec: Spec, **keys: Any) -> Any:
    return MODELS.build(defaults("model", "cnn", **keys), spec)


def share_weights(model: nn.Module, by_hand: nn.Module) -> None:
    """Copy the parameters and buffers of one module to another, in order; both need the same shapes."""
    own, other = list(model.state_dict().values()), by_hand.state_dict()
    assert [tuple(tensor.shape) for tensor in own] == [tuple(tensor.shape) for tensor in other.values()]
    by_hand.load_state_dict(dict(zip(other, own, strict=True)))


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (3, 32, 32), (1, 5, 7), (2, 9, 4), (3, 31, 17)])
def test_default_network_is_the_classic_one_for_any_size(channels: int, height: int, width: int) -> None:
    model = build(image_spec(channels, height, width, classes=10))
    by_hand = nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
    share_weights(model, by_hand)
    images = torch.randn(3, channels, height, width)
    assert model(images).shape == (3, 10)
    torch.testing.assert_close(model(images), by_hand(images), rtol=1e-5, atol=1e-6)
    # In the same memory layout outputs and gradients agree bit for bit, although the model pools before its ReLU.
    by_hand.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    results = []
    for network in (model, by_hand):
        outputs = network(images)
        results.append([outputs, *torch.autograd.grad(outputs.square().sum(), list(network.parameters()))])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*results, strict=True))


def test_default_network_on_28_by_28_has_421642_parameters() -> None:
    model = build(image_spec(1, 28, 28, classes=10))
    # 32·(9+1) + 64·(32·9+1) + 128·(64·7·7+1) + 10·(128+1)
    assert sum(parameter.numel() for parameter in model.parameters()) == 421_642


def convolve(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve (channels, height, width) with zeros as padding, written as sums over channels and window."""
    (channels, height, width), (maps, _, size, _) = images.shape, weight.shape
    half = size // 2
    result = torch.zeros(maps, height, width, dtype=torch.float64)
    for out in range(maps):
        for y in range(height):
            for x in range(width):
                total = float(bias[out])
                for channel in range(channels):
                    for i in range(size):
                        for j in range(size):
                            row, column = y + i - half, x + j - half
                            if 0 <= row < height and 0 <= column < width:
                                total += float(weight[out, channel, i, j]) * float(images[channel, row, column])
                result[out, y, x] = total
    return result


def pool(images: Tensor) -> Tensor:
    """Return the maximum of each 2×2 window of (channels, height, width); an odd last row or column is dropped."""
    channels, height, width = images.shape
    result = torch.zeros(channels, height // 2, width // 2, dtype=torch.float64)
    for channel in range(channels):
        for y in range(height // 2):
            for x in range(width // 2):
                window = [float(images[channel, 2 * y + i, 2 * x + j]) for i in (0, 1) for j in (0, 1)]
                result[channel, y, x] = max(window)
    return result


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_network_follows_its_sums_written_out(kernel_size: int) -> None:
    model = double_model(build(image_spec(2, 5, 7), channels=[2, 3], hidden=4, kernel_size=kernel_size))
    weights = list(model.parameters())
    image = torch.randn(2, 5, 7, dtype=torch.float64)
    with torch.no_grad():
        maps = image
        for weight, bias in (weights[0:2], weights[2:4]):
            maps = pool(convolve(maps, weight, bias).clamp_min(0))
        hidden = (weights[4] @ maps.reshape(-1) + weights[5]).clamp_min(0)
        wanted = weights[6] @ hidden + weights[7]
        # float64 sums of at most 75 terms near 1 in another order differ by about 1e-14
        assert_close(model(image[None])[0], wanted)


@pytest.mark.parametrize("sizes", [(3, 9), (9, 3), (1, 1)])
def test_too_small_images_are_refused_with_dataset_and_sizes(sizes: tuple[int, int]) -> None:
    with pytest.raises(ConfigError) as refused:
        build(image_spec(1, *sizes, dataset="stamps"))
    message = str(refused.value)
    assert "model.channels" in message and "dataset=stamps" in message and f"{sizes[0]}×{sizes[1]}" in message
    assert "at least 4" in message


def test_smallest_image_that_can_be_halved_is_taken() -> None:
    assert build(image_spec(1, 8, 8), channels=[2, 2, 2])(torch.randn(2, 1, 8, 8)).shape == (2, 3)
    with pytest.raises(ConfigError, match="at least 16"):
        build(image_spec(1, 8, 8), channels=[2, 2, 2, 2])


@pytest.mark.parametrize("kernel_size", [2, 4])
def test_even_kernel_is_refused(kernel_size: int) -> None:
    with pytest.raises(ConfigError, match=rf"model\.kernel_size: must be odd.*got {kernel_size}"):
        build(image_spec(1, 8, 8), kernel_size=kernel_size)


@pytest.mark.parametrize("channels", [[4], [4, 5], [3, 6, 2]])
def test_channels_hidden_and_norm_shape_the_network(channels: list[int]) -> None:
    model = build(image_spec(2, 9, 11), channels=channels, hidden=6, norm="batch")
    blocks: list[nn.Module] = []
    width, height, length = 2, 9, 11
    for maps in channels:
        blocks += [nn.Conv2d(width, maps, 3, padding=1, bias=False), nn.BatchNorm2d(maps), nn.ReLU(), nn.MaxPool2d(2)]
        width, height, length = maps, height // 2, length // 2
    by_hand = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(width * height * length, 6), nn.ReLU(), nn.Linear(6, 3))
    share_weights(model, by_hand)
    by_hand.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(4, 2, 9, 11)
    assert torch.equal(model(images), by_hand(images))  # the statistics of the batch
    assert torch.equal(model.eval()(images), by_hand.eval()(images))  # the running statistics


def test_dropout_acts_on_the_hidden_units_in_training_only() -> None:
    model = build(image_spec(1, 8, 8, classes=500), channels=[4], hidden=500, dropout=0.25)
    with torch.no_grad():
        model.out.weight.copy_(torch.eye(500))  # the outputs are the hidden units
        model.out.bias.zero_()
        images = torch.randn(1, 1, 8, 8)
        whole, dropped = model.eval()(images), model.train()(images)
        assert torch.equal(model.eval()(images), whole)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.75)
    share = float(kept.sum() / (whole != 0).sum())
    assert 0.6 < share < 0.9  # about 250 units that are not 0: five standard deviations are 0.14


@pytest.mark.parametrize(
    ("spec", "inputs", "width"),
    [
        (make_spec("sequence", (13, 5)), torch.randn(4, 13, 5), 5),
        (make_spec("table", (13,)), torch.randn(4, 13), 1),
        (make_spec("tokens", (13,), vocabulary=11), torch.randint(0, 11, (4, 13)), 8),
    ],
    ids=["sequence", "table", "tokens"],
)
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_what_is_no_image_is_read_as_a_signal(spec: Spec, inputs: Tensor, width: int, norm: str) -> None:
    model = build(spec, norm=norm, embedding=8, channels=[4, 6], hidden=7).double()
    inputs = inputs if spec.kind == "tokens" else inputs.double()
    blocks: list[nn.Module] = []
    for before, maps in ((width, 4), (4, 6)):
        blocks.append(nn.Conv1d(before, maps, 3, padding=1, bias=norm == "none"))
        blocks += [nn.BatchNorm1d(maps)] if norm == "batch" else []
        blocks += [nn.ReLU(), nn.MaxPool1d(2)]
    embedding = nn.ModuleList([nn.Embedding(11, 8, padding_idx=0)] if spec.kind == "tokens" else [])
    network = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(6 * 3, 7), nn.ReLU(), nn.Linear(7, 3))
    share_weights(model, nn.ModuleList([embedding, network]).double())
    if spec.kind == "tokens":
        signal = embedding[0](inputs).transpose(1, 2)
    elif spec.kind == "table":
        signal = inputs[:, None, :]
    else:
        signal = inputs.transpose(1, 2)
    # float64, because the strides of a table may select a kernel with another order of summation
    assert_close(model(inputs), network(signal))


def test_signal_follows_its_sums_written_out() -> None:
    model = double_model(build(make_spec("sequence", (7, 2)), channels=[3], hidden=4))
    weights = list(model.parameters())
    sample = torch.randn(7, 2, dtype=torch.float64)
    maps = torch.zeros(3, 7, dtype=torch.float64)
    with torch.no_grad():
        for out in range(3):
            for step in range(7):
                terms = [
                    float(weights[0][out, channel, i]) * float(sample[step + i - 1, channel])
                    for channel in range(2)
                    for i in range(3)
                    if 0 <= step + i - 1 < 7
                ]
                maps[out, step] = max(0.0, float(weights[1][out]) + sum(terms))
        pooled = torch.stack([maps[:, 2 * step : 2 * step + 2].amax(1) for step in range(3)], dim=1)
        hidden = (weights[2] @ pooled.reshape(-1) + weights[3]).clamp_min(0)
        # float64 sums of at most 9 terms in another order
        assert_close(model(sample[None])[0], weights[4] @ hidden + weights[5])


def test_too_short_sequence_is_refused_with_dataset_and_steps() -> None:
    with pytest.raises(ConfigError, match="dataset=ticks has 3"):
        build(make_spec("sequence", (3, 100), dataset="ticks"))


def test_padding_token_is_a_zero_vector_and_stays_one() -> None:
    model = build(make_spec("tokens", (8,), vocabulary=5))
    model(torch.randint(0, 5, (6, 8))).sum().backward()
    embedding = next(module for module in model.modules() if isinstance(module, nn.Embedding))
    assert embedding.weight.grad is not None
    assert not embedding.weight[0].any() and not embedding.weight.grad[0].any()
    assert embedding.weight.grad[1:].any()


def test_last_layer_follows_the_loss() -> None:
    logits, probabilities = (
        build(image_spec(1, 8, 8, classes=2, num_outputs=1, sigmoid=sigmoid)) for sigmoid in (False, True)
    )
    share_weights(logits, probabilities)
    images = torch.randn(5, 1, 8, 8)
    assert logits(images).shape == (5, 1)
    assert torch.equal(probabilities(images), logits(images).sigmoid())


LENGTHS = (7, 1, 12, 4, 9)
VARYING = {
    "sequence": replace(make_spec("sequence", (12, 5)), varying=True),
    "tokens": replace(make_spec("tokens", (12,), vocabulary=11), varying=True),
    "spectrogram": replace(make_spec("spectrogram", (1, 12, 6)), varying=True),
}


def padded_batch(spec: Spec, steps: int = 12) -> tuple[Tensor, Tensor]:
    """Return samples of ``LENGTHS`` steps, padded with zeros to ``steps``, and their lengths."""
    lengths = torch.tensor(LENGTHS)
    if spec.kind == "tokens":
        inputs = torch.randint(1, 11, (5, 12))
    else:
        inputs = torch.randn(5, *spec.shape, dtype=torch.float64)
    axis = spec.step_axis
    size = [1] * inputs.ndim
    size[0], size[axis] = 5, 12
    beyond = (torch.arange(12) >= lengths[:, None]).view(size)
    inputs = inputs.masked_fill(beyond, 0)
    more = list(inputs.shape)
    more[axis] = steps - 12
    return torch.cat([inputs, inputs.new_zeros(more)], axis), lengths


def varying_model(spec: Spec, norm: str, global_pool: str) -> Any:
    """Return a model in float64 with running statistics like those after training."""
    model = build(spec, norm=norm, global_pool=global_pool, channels=[4, 6], hidden=7, embedding=8).double().eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            nn.init.normal_(layer.bias)
    return model


@pytest.mark.parametrize("kind", VARYING)
@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("global_pool", ["auto", "none", "max", "mean"])
def test_padded_sample_answers_and_learns_as_it_does_alone(kind: str, norm: str, global_pool: str) -> None:
    spec = VARYING[kind]
    model = varying_model(spec, norm, global_pool)
    inputs, lengths = padded_batch(spec)
    pull = torch.randn(5, 3, dtype=torch.float64)  # a different gradient for each output
    together = model(inputs, lengths)
    (together * pull).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    for row, length in enumerate(LENGTHS):
        alone = model(inputs[row : row + 1].narrow(spec.step_axis, 0, length), lengths[row : row + 1])
        assert_close(alone[0], together[row])
        (alone * pull[row]).sum().backward()
    for parameter, wanted in zip(model.parameters(), gradients, strict=True):
        assert_close(parameter.grad, wanted)
    assert any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("kind", VARYING)
@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("global_pool", ["auto", "none", "max", "mean"])
def test_answer_in_training_does_not_depend_on_the_padding(kind: str, norm: str, global_pool: str) -> None:
    spec = replace(VARYING[kind], shape=tuple(20 if size == 12 else size for size in VARYING[kind].shape))
    model = varying_model(spec, norm, global_pool).train()
    torch.manual_seed(1)
    inputs, lengths = padded_batch(VARYING[kind])
    torch.manual_seed(1)
    more, _ = padded_batch(VARYING[kind], steps=19)
    assert more.shape[spec.step_axis] == 19
    assert_close(model(more, lengths), model(inputs, lengths))


@pytest.mark.parametrize("kind", VARYING)
def test_statistics_of_a_batch_are_those_of_its_valid_steps(kind: str) -> None:
    spec = VARYING[kind]
    model = build(spec, norm="batch", channels=[4], hidden=7, embedding=8).double().train()
    inputs, lengths = padded_batch(spec)
    model(inputs, lengths)
    conv, norm = model.blocks[0], model.blocks[1]
    maps = []
    for row, length in enumerate(LENGTHS):
        alone = model.signal(inputs[row : row + 1].narrow(spec.step_axis, 0, length))
        maps.append(conv(alone)[0].flatten(1))
    values = torch.cat(maps, dim=1)
    assert_close(norm.running_mean, 0.1 * values.mean(1))
    assert_close(norm.running_var, 0.9 + 0.1 * values.var(1))


@pytest.mark.parametrize("kind", VARYING)
@pytest.mark.parametrize("global_pool", ["max", "mean"])
def test_pooled_steps_are_the_valid_ones(kind: str, global_pool: str) -> None:
    spec = VARYING[kind]
    model = varying_model(spec, "none", global_pool)
    inputs, lengths = padded_batch(spec)
    with torch.no_grad():
        for row, length in enumerate(LENGTHS):
            maps = model.signal(inputs[row : row + 1].narrow(spec.step_axis, 0, length))
            for layer in model.blocks:
                if isinstance(layer, nn.MaxPool1d | nn.MaxPool2d):  # the last step alone is half of a pair
                    odd = maps.shape[2] % 2
                    maps = torch.cat([maps, maps[:, :, -1:]], dim=2) if odd else maps
                maps = layer(maps)
            steps = -(-length // 4)
            assert maps.shape[2] == steps
            pooled = maps.amax(2) if global_pool == "max" else maps.mean(2)
            assert_close(model(inputs, lengths)[row], model.out(model.head(pooled))[0])


@pytest.mark.parametrize("kind", VARYING)
@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_normalised_steps_are_those_of_small_differences(kind: str, training: bool) -> None:
    spec = VARYING[kind]
    if spec.kind == "tokens":
        pytest.skip("tokens have no numbers to change a little")
    model = varying_model(spec, "batch", "auto").train(training)
    inputs, lengths = padded_batch(spec)

    def answer(factor: Tensor) -> Tensor:
        outputs: Tensor = model(inputs * factor, lengths)
        return outputs.square().sum()

    at, step = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), 1e-6
    (found,) = torch.autograd.grad(answer(at), at)
    with torch.no_grad():
        expected = (answer(at + step) - answer(at - step)) / (2 * step)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", VARYING)
@pytest.mark.parametrize("training", [True, False])
def test_a_mask_normalises_as_the_choice_of_the_valid_steps_does(kind: str, training: bool) -> None:
    spec = VARYING[kind]
    results = []
    for normalised in (_over_valid, _over_valid_by_mask):
        norm = build(spec, norm="batch", channels=[4], hidden=7, embedding=8).double().train(training).blocks[1]
        inputs, lengths = padded_batch(spec)
        generator = torch.Generator().manual_seed(0)
        maps = torch.randn(len(inputs), 4, inputs.shape[spec.step_axis], generator=generator, dtype=torch.float64)
        maps = maps.unsqueeze(3).repeat(1, 1, 1, 5) if isinstance(norm, nn.BatchNorm2d) else maps
        valid = valid_steps(lengths, maps.shape[2])
        kept = keep(normalised(norm, maps.requires_grad_(), valid), valid, axis=2)
        gradients = torch.autograd.grad((kept * maps.detach().cos()).sum(), [maps, norm.weight, norm.bias])
        results.append([kept, *gradients, norm.running_mean, norm.running_var, norm.num_batches_tracked])
    for masked, chosen in zip(*results, strict=True):
        assert_close(masked, chosen)


def test_last_layer_is_float32_under_autocast() -> None:
    model = build(image_spec(1, 8, 8, classes=2, num_outputs=1, sigmoid=True))
    model.out[0].bias.data.fill_(7.5)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(torch.zeros(2, 1, 8, 8))
    assert outputs.dtype == torch.float32
    assert 0.999 < outputs[0, 0].item() < 1  # bfloat16 has no number between 0.9961 and 1
