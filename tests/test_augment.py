"""Augmentation, against every sample done by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainer.augment import Augment
from trainer.data import Data, Split, TensorSource
from trainer.loader import Share, make_loaders
from trainer.spec import Spec

SIZES = [(6, 6), (5, 8), (9, 4)]
sizes = pytest.mark.parametrize(("height", "width"), SIZES)


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    torch.manual_seed(0)


def augment(
    images: Tensor, draws: Tensor, *, crop: int = 0, flip: bool = False, rotate: float = 0, scale: float = 0
) -> Tensor:
    return Augment(crop=crop, flip=flip, rotate=rotate, scale=scale).change(images, draws)


def make_images(samples: int, channels: int, height: int, width: int) -> Tensor:
    return torch.randint(1, 256, (samples, channels, height, width), dtype=torch.uint8)  # 0 is only what is uncovered


def pixel(image: Tensor, row: int, column: int) -> Tensor:
    """All channels of a pixel; outside they are 0."""
    _, height, width = image.shape
    if 0 <= row < height and 0 <= column < width:
        return image[:, row, column].double()
    return torch.zeros(len(image), dtype=torch.float64)


def shifted_by_hand(image: Tensor, draws: list[float], crop: int, flip: bool) -> Tensor:
    """Mirrored at draws below 1/2, the window moved by -crop to crop."""
    _, height, width = image.shape
    down, right = (math.floor(draw * (2 * crop + 1)) - crop for draw in draws[:2])
    result = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            source = width - 1 - column if flip and draws[2] < 0.5 else column
            result[:, row, column] = pixel(image, row + down, source + right).to(image.dtype)
    return result


def turned_by_hand(image: Tensor, draws: list[float], rotate: float, scale: float) -> Tensor:
    """Each pixel looks up where it came from, turned back about the middle and shrunk by the zoom, bilinearly."""
    channels, height, width = image.shape
    angle = math.radians((2 * draws[3] - 1) * rotate)
    zoom = 1 + (2 * draws[4] - 1) * scale
    result = torch.zeros(channels, height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            x, y = column - (width - 1) / 2, row - (height - 1) / 2
            left = (math.cos(angle) * x - math.sin(angle) * y) / zoom + (width - 1) / 2
            top = (math.sin(angle) * x + math.cos(angle) * y) / zoom + (height - 1) / 2
            for near_row in (math.floor(top), math.floor(top) + 1):
                for near_column in (math.floor(left), math.floor(left) + 1):
                    share = (1 - abs(top - near_row)) * (1 - abs(left - near_column))
                    result[:, row, column] += share * pixel(image, near_row, near_column)
    return result


@sizes
@pytest.mark.parametrize(("crop", "flip"), [(0, True), (2, False), (2, True), (12, True)])
def test_crop_and_flip_move_each_sample_as_by_hand(height: int, width: int, crop: int, flip: bool) -> None:
    images, draws = make_images(16, 3, height, width), torch.rand(16, Augment.num_draws)
    result = augment(images, draws, crop=crop, flip=flip)
    assert result.dtype == torch.uint8 and result.shape == images.shape
    wanted = [shifted_by_hand(*each, crop, flip) for each in zip(images, draws.tolist(), strict=True)]
    assert torch.equal(result, torch.stack(wanted))


@pytest.mark.parametrize("crop", [1, 2, 3, 4, 7])
def test_extreme_draws_shift_by_the_whole_crop(crop: int) -> None:
    image = make_images(1, 1, 9, 9).expand(2, -1, -1, -1)
    most = 1 - 2**-24  # the largest that torch.rand gives
    low, high = augment(image, torch.tensor([[0.0] * 5, [most] * 5]), crop=crop)
    assert torch.equal(low[:, crop:, crop:], image[0, :, :-crop, :-crop])
    assert torch.equal(high[:, :-crop, :-crop], image[1, :, crop:, crop:])
    assert not low[:, :crop].any() and not low[:, :, :crop].any()
    assert not high[:, -crop:].any() and not high[:, :, -crop:].any()


def test_every_shift_is_as_likely() -> None:
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 2] = 1
    draws = torch.rand(5000, Augment.num_draws)
    where = augment(image.expand(5000, -1, -1, -1), draws, crop=2).sum(0)[0]
    assert int(where.sum()) == 5000
    assert float((where - 200).abs().max()) < 5 * 14  # 25 places, 200 each, a standard deviation of 14


def test_flip_alone_mirrors_at_draws_below_one_half() -> None:
    images = make_images(4, 2, 3, 5)
    draws = torch.rand(4, Augment.num_draws)
    draws[:, 2] = torch.tensor([0.0, 0.499, 0.5, 0.999])
    result = augment(images, draws, flip=True)
    assert torch.equal(result[:2], images[:2].flip(3)) and torch.equal(result[2:], images[2:])


@sizes
@pytest.mark.parametrize(("rotate", "scale"), [(30.0, 0.0), (0.0, 0.4), (180.0, 0.0), (25.0, 0.9)])
def test_rotation_and_scale_turn_each_sample_as_by_hand(height: int, width: int, rotate: float, scale: float) -> None:
    images, draws = make_images(8, 3, height, width), torch.rand(8, Augment.num_draws)
    result = augment(images, draws, rotate=rotate, scale=scale)
    assert result.dtype == torch.float32 and result.shape == images.shape
    wanted = [turned_by_hand(*each, rotate, scale) for each in zip(images, draws.tolist(), strict=True)]
    # values to 255, looked up at float32 places: 255 · 9 pixels · 2^-23 · a few
    torch.testing.assert_close(result.double(), torch.stack(wanted), rtol=0, atol=5e-3)


def quarter_turned(images: Tensor, turns: int) -> Tensor:
    """torch.rot90 about the middle, cut or filled with 0 to the sizes of before."""
    height, width = images.shape[2:]
    turned = torch.rot90(images, turns, dims=(2, 3))
    room = max(height, width)
    canvas = torch.zeros(*images.shape[:2], room, room)
    top, left = (room - turned.shape[2]) // 2, (room - turned.shape[3]) // 2
    canvas[:, :, top : top + turned.shape[2], left : left + turned.shape[3]] = turned
    top, left = (room - height) // 2, (room - width) // 2
    return canvas[:, :, top : top + height, left : left + width]


@pytest.mark.parametrize(("height", "width"), [(6, 6), (7, 7), (4, 8), (9, 5)])
@pytest.mark.parametrize(
    ("rotate", "draw", "turns"), [(90.0, 0.0, -1), (90.0, 0.5, 0), (180.0, 0.75, 1), (180.0, 0.25, -1), (180.0, 0.0, 2)]
)
def test_quarter_turns_are_those_of_rot90(height: int, width: int, rotate: float, draw: float, turns: int) -> None:
    images = make_images(3, 2, height, width).float()
    draws = torch.full((3, Augment.num_draws), draw)  # the angle is (2 · draw - 1) · rotate
    wanted = quarter_turned(images, turns)
    torch.testing.assert_close(augment(images, draws, rotate=rotate), wanted, rtol=0, atol=5e-3)


def test_crop_and_flip_follow_the_rotation() -> None:
    images, draws = make_images(8, 3, 6, 7), torch.rand(8, Augment.num_draws)
    turned = augment(images, draws, rotate=20, scale=0.2)
    both = augment(images, draws, crop=2, flip=True, rotate=20, scale=0.2)
    wanted = [shifted_by_hand(*each, 2, True) for each in zip(turned, draws.tolist(), strict=True)]
    assert torch.equal(both, torch.stack(wanted))


@pytest.mark.parametrize("keys", [{"crop": 2, "flip": True}, {"crop": 2, "flip": True, "rotate": 20, "scale": 0.2}])
def test_result_of_a_sample_does_not_depend_on_its_batch(keys: dict[str, float]) -> None:
    images, draws = make_images(9, 3, 8, 7), torch.rand(9, Augment.num_draws)
    change = Augment(**{"crop": 0, "flip": False, "rotate": 0, "scale": 0, **keys})  # type: ignore[arg-type]
    together, order = change.change(images, draws), torch.randperm(9)
    assert torch.equal(change.change(images[order], draws[order]), together[order])
    for number in range(9):
        assert torch.equal(change.change(images[number : number + 1], draws[number : number + 1])[0], together[number])


def test_augmentation_leaves_its_input_alone() -> None:
    images, draws = make_images(4, 1, 6, 6), torch.rand(4, Augment.num_draws)
    for floating in (images.clone(), images.float()):
        before = floating.clone()
        changed = augment(floating, draws, crop=1, flip=True, rotate=10, scale=0.1)
        assert torch.equal(floating, before) and not torch.equal(changed, before.float())


def test_augmentation_with_every_key_off_is_none() -> None:
    assert Augment.from_keys({"crop": 0, "flip": False, "rotate": 0.0, "scale": 0.0}) is None
    for on in ({"crop": 1}, {"flip": True}, {"rotate": 1.0}, {"scale": 0.1}):
        keys = {"crop": 0, "flip": False, "rotate": 0.0, "scale": 0.0, **on}
        assert isinstance(Augment.from_keys(keys), Augment)  # type: ignore[arg-type]


def seen_in_epoch(epoch: int, *, batch_size: int, in_memory: bool = True, seed: int = 0) -> Tensor:
    """What becomes of each of 12 samples in an epoch, (samples, …) in the order of the source."""
    images = make_images_once()
    samples = torch.arange(12)
    split = Split.all(TensorSource((images,), samples))
    spec = Spec("made_up", "image", tuple(images.shape[1:]), "classification", tuple(map(str, range(12))))
    change = Augment(crop=2, flip=True, rotate=20, scale=0.2)
    data = Data(spec, split, None, split, augment=change, in_memory=in_memory)
    loaders = make_loaders(
        data,
        torch.device("cpu"),
        seed=seed,
        batch_size=batch_size,
        limit_batches=None,
        overfit_batches=None,
        share=Share(batch_size),
    )
    seen = torch.zeros(images.shape)
    for batch in loaders.train.epoch(epoch):
        seen[batch.targets] = batch.inputs[0]
    return seen


def make_images_once() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (12, 3, 8, 7), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("in_memory", [True, False], ids=["in_memory", "streamed"])
@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_draws_belong_to_the_sample_and_the_epoch(batch_size: int, in_memory: bool) -> None:
    wanted = seen_in_epoch(3, batch_size=4)
    assert torch.equal(seen_in_epoch(3, batch_size=batch_size, in_memory=in_memory), wanted)
    assert not torch.equal(seen_in_epoch(4, batch_size=batch_size, in_memory=in_memory), wanted)
    assert not torch.equal(seen_in_epoch(3, batch_size=batch_size, in_memory=in_memory, seed=1), wanted)
