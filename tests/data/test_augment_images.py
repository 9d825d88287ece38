"""Augmentation, against every sample done by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers import loaders_of, torchvision_functional
from trainer.data import Data, Split, TensorSource, augment_images
from trainer.data.augment_images import OFF, Augment, change_colors, erase, rotate_and_scale, shift
from trainer.data.random_numbers import SampleRandom
from trainer.spec import Spec

SIZES = [(6, 6), (5, 8), (9, 4)]
sizes = pytest.mark.parametrize(("height", "width"), SIZES)


def augmented(images: Tensor, *key: int, top: int = 255, **keys: Any) -> Tensor:
    """The images as samples 0, 1, 2, … with some keys on."""
    change = Augment({**OFF, **keys}, top)  # type: ignore[typeddict-item]
    return change((images,), SampleRandom(torch.arange(len(images)), *key))[0]


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
    angle = math.radians((2 * draws[0] - 1) * rotate)
    zoom = 1 + (2 * draws[1] - 1) * scale
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
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("crop", "flip"), [(0, True), (2, False), (2, True), (12, True)])
def test_crop_and_flip_move_each_sample_as_by_hand(
    height: int, width: int, crop: int, flip: bool, channels: int, dtype: torch.dtype
) -> None:
    images, draws = make_images(16, channels, height, width).to(dtype), torch.rand(16, 3)
    draws[0], draws[-1] = 0, 1 - 2**-24  # the least and the most, of the first and the last sample
    result = shift(images, draws, crop=crop, flip=flip)
    assert result.dtype == dtype and result.shape == images.shape and result.is_contiguous()
    wanted = [shifted_by_hand(*each, crop, flip) for each in zip(images, draws.tolist(), strict=True)]
    assert torch.equal(result, torch.stack(wanted))
    assert torch.equal(augment_images._shift_by_pixels(images, draws, crop, flip), result)  # what mps does


@pytest.mark.parametrize("crop", [1, 2, 3, 4, 7])
def test_extreme_draws_shift_by_the_whole_crop(crop: int) -> None:
    image = make_images(1, 1, 9, 9).expand(2, -1, -1, -1)
    most = 1 - 2**-24  # the largest that torch.rand gives
    low, high = shift(image, torch.tensor([[0.0] * 3, [most] * 3]), crop=crop, flip=False)
    assert torch.equal(low[:, crop:, crop:], image[0, :, :-crop, :-crop])
    assert torch.equal(high[:, :-crop, :-crop], image[1, :, crop:, crop:])
    assert not low[:, :crop].any() and not low[:, :, :crop].any()
    assert not high[:, -crop:].any() and not high[:, :, -crop:].any()


def test_images_may_lie_in_memory_in_any_way() -> None:
    images, draws = make_images(8, 3, 5, 7), torch.rand(8, 3)
    wanted = shift(images, draws, crop=2, flip=True)
    for given in (
        images.to(memory_format=torch.channels_last),
        images.mT.contiguous().mT,
        images.repeat(2, 1, 1, 1)[:8],
    ):
        assert torch.equal(shift(given, draws, crop=2, flip=True), wanted)


def test_every_shift_is_as_likely() -> None:
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 2] = 1
    draws = torch.rand(5000, 3)
    where = shift(image.expand(5000, -1, -1, -1), draws, crop=2, flip=False).sum(0)[0]
    assert int(where.sum()) == 5000
    assert float((where - 200).abs().max()) < 5 * 14  # 25 places, 200 each, a standard deviation of 14


def test_flip_alone_mirrors_at_draws_below_one_half() -> None:
    images = make_images(4, 2, 3, 5)
    draws = torch.rand(4, 3)
    draws[:, 2] = torch.tensor([0.0, 0.499, 0.5, 0.999])
    result = shift(images, draws, crop=0, flip=True)
    assert torch.equal(result[:2], images[:2].flip(3)) and torch.equal(result[2:], images[2:])


@sizes
@pytest.mark.parametrize(("rotate", "scale"), [(30.0, 0.0), (0.0, 0.4), (180.0, 0.0), (25.0, 0.9)])
def test_rotation_and_scale_turn_each_sample_as_by_hand(height: int, width: int, rotate: float, scale: float) -> None:
    images, draws = make_images(8, 3, height, width), torch.rand(8, 2)
    result = rotate_and_scale(images, draws, rotate=rotate, scale=scale)
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
    draws = torch.full((3, 2), draw)  # the angle is (2 · draw - 1) · rotate
    wanted = quarter_turned(images, turns)
    torch.testing.assert_close(rotate_and_scale(images, draws, rotate=rotate, scale=0), wanted, rtol=0, atol=5e-3)


def test_crop_and_flip_follow_the_rotation() -> None:
    images = make_images(8, 3, 6, 7)
    draws = SampleRandom(torch.arange(8), 0, 1).uniform("shift", 3).tolist()
    turned = augmented(images, 0, 1, rotate=20, scale=0.2)
    both = augmented(images, 0, 1, crop=2, flip=True, rotate=20, scale=0.2)
    wanted = [shifted_by_hand(*each, 2, True) for each in zip(turned, draws, strict=True)]
    assert torch.equal(both, torch.stack(wanted))


def erased_by_hand(image: Tensor, draws: list[float], chance: float) -> Tensor:
    """A rectangle of an area of 2 to 33 %, 1/3.3 to 3.3 times as high as wide, its corner anywhere it fits."""
    _, height, width = image.shape
    result = image.clone()
    if draws[0] >= chance:
        return result
    area = (0.02 + 0.31 * draws[1]) * height * width
    aspect = 3.3 ** (2 * draws[2] - 1)
    rows = min(max(round(math.sqrt(area * aspect)), 1), height)
    columns = min(max(round(math.sqrt(area / aspect)), 1), width)
    top, left = math.floor(draws[3] * (height - rows + 1)), math.floor(draws[4] * (width - columns + 1))
    for row in range(top, top + rows):
        for column in range(left, left + columns):
            result[:, row, column] = 0
    return result


@pytest.mark.parametrize(("height", "width"), [*SIZES, (28, 28), (3, 40), (1, 1)])
@pytest.mark.parametrize("chance", [0.3, 1.0])
def test_a_rectangle_is_erased_as_by_hand(height: int, width: int, chance: float) -> None:
    images, draws = make_images(60, 3, height, width), torch.rand(60, 5)
    result = erase(images, draws, chance=chance)
    assert result.dtype == torch.uint8
    wanted = [erased_by_hand(*each, chance) for each in zip(images, draws.tolist(), strict=True)]
    assert torch.equal(result, torch.stack(wanted))


def test_erasing_has_its_chance_and_its_areas_and_reaches_every_pixel() -> None:
    images = torch.ones(4000, 1, 32, 32)
    gone = (erase(images, torch.rand(4000, 5), chance=0.25) == 0).squeeze(1)
    areas = gone.flatten(1).float().mean(1)
    some = areas[areas > 0]
    assert abs(len(some) - 1000) < 5 * 28  # a standard deviation of 27.4
    assert 0.015 < float(some.min()) < 0.04 and 0.30 < float(some.max()) < 0.35
    assert abs(float(some.mean()) - 0.175) < 0.015
    assert gone.any(0).all()
    heights, widths = gone.any(2).sum(1), gone.any(1).sum(1)
    assert abs(float((heights > widths).sum() - (heights < widths).sum())) < 5 * 32  # each way up as likely


def test_colors_change_as_torchvision_changes_them() -> None:
    functional = torchvision_functional()
    images, draws = make_images(12, 3, 9, 8), torch.rand(12, 3)
    result = change_colors(images.float(), draws, color=0.6)
    for image, got, numbers in zip(images, result, draws.tolist(), strict=True):
        bright, contrast, saturation = (1 + 0.6 * (2 * number - 1) for number in numbers)
        wanted = functional.adjust_brightness(image / 255, bright)
        wanted = functional.adjust_contrast(wanted, contrast)
        wanted = functional.adjust_saturation(wanted, saturation) * 255
        # a mean of whole grey levels is at most 1 too dark, times 1 - contrast and then saturation
        torch.testing.assert_close(got, wanted, rtol=0, atol=abs(1 - contrast) * max(saturation, 1) + 1e-3)


def test_the_brightest_value_is_that_of_the_data() -> None:
    images = torch.randint(0, 17, (64, 1, 8, 8), dtype=torch.uint8)
    images[:, 0, 0, :2] = torch.tensor([0, 16], dtype=torch.uint8)  # so that autocontrast finds them at both ends
    for keys in ({"color": 0.9}, {"policy": "trivial"}, {"policy": "rand"}):
        small = augmented(images, 3, top=16, **keys)
        large = augmented(images.float() * (255 / 16), 3, **keys)
        torch.testing.assert_close(small * (255 / 16), large, rtol=0, atol=1e-3)
        assert float(small.min()) >= 0 and float(small.max()) <= 16 + 1e-5
    bright = augmented(images, 3, top=16, color=0.9)
    assert float(bright.max()) == pytest.approx(16)  # held there, where 255 would have let it grow
    assert float((images * 1.5).max()) > 16


EVERY_KIND: list[dict[str, Any]] = [
    {"crop": 2, "flip": True},
    {"crop": 2, "flip": True, "rotate": 20, "scale": 0.2},
    {"erase": 0.7},
    {"color": 0.5},
    {"policy": "trivial"},
    {"policy": "rand"},
    {"crop": 1, "flip": True, "rotate": 9, "scale": 0.1, "erase": 0.5, "color": 0.3, "policy": "rand"},
]


@pytest.mark.parametrize("keys", EVERY_KIND, ids=" ".join)
@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 30), (1, 8, 9), (2, 5, 5), (3, 1, 2)])
def test_result_of_a_sample_does_not_depend_on_its_batch(
    keys: dict[str, Any], channels: int, height: int, width: int
) -> None:
    images, positions = make_images(41, channels, height, width), torch.randperm(1000)[:41]
    change = Augment({**OFF, **keys})  # type: ignore[typeddict-item]
    (together,) = change((images,), SampleRandom(positions, 0, 5))
    assert together.shape == images.shape and not torch.equal(together.float(), images.float())
    order = torch.randperm(41)
    assert torch.equal(change((images[order],), SampleRandom(positions[order], 0, 5))[0], together[order])
    for number in range(41):
        only = slice(number, number + 1)
        assert torch.equal(change((images[only],), SampleRandom(positions[only], 0, 5))[0][0], together[number])


@pytest.mark.parametrize("keys", EVERY_KIND, ids=" ".join)
def test_augmentation_leaves_its_input_alone(keys: dict[str, Any]) -> None:
    images = make_images(16, 3, 6, 6)
    for given in (images, images.float()):
        before = given.clone()
        changed = augmented(given, 0, **keys)
        assert torch.equal(given, before) and not torch.equal(changed.float(), before.float())


def test_what_moves_whole_pixels_keeps_bytes() -> None:
    images = make_images(4, 3, 8, 8)
    assert augmented(images, 0, crop=1, flip=True, erase=0.5).dtype == torch.uint8
    assert augmented(images, 0, color=0.5).dtype == torch.float32


def test_other_inputs_pass() -> None:
    sizes = torch.arange(4)
    result = Augment({**OFF, "flip": True})((make_images(4, 1, 3, 3), sizes), SampleRandom(sizes, 0))
    assert result[1] is sizes


def test_augmentation_with_every_key_off_is_none() -> None:
    assert Augment.from_keys(OFF) is None
    assert Augment.from_keys({**OFF, "mixup": 0.2, "cutmix": 1.0}) is None  # that is another's part
    for on in EVERY_KIND:
        assert isinstance(Augment.from_keys({**OFF, **on}), Augment)  # type: ignore[typeddict-item]


def seen_in_epoch(
    keys: dict[str, Any], epoch: int, *, batch_size: int, in_memory: bool = True, seed: int = 0
) -> Tensor:
    """What becomes of each of 12 samples in an epoch, (samples, …) in the order of the source."""
    images = make_images_once()
    samples = torch.arange(12)
    split = Split.all(TensorSource((images,), samples))
    spec = Spec("made_up", "image", tuple(images.shape[1:]), "classification", tuple(map(str, range(12))))
    change = Augment({**OFF, **keys})  # type: ignore[typeddict-item]
    data = Data(spec, split, None, split, augment=change, in_memory=in_memory)
    loaders = loaders_of(data, batch_size, seed)
    seen = torch.zeros(images.shape)
    for batch in loaders.train.epoch(epoch):
        seen[batch.targets] = batch.inputs[0]
    return seen


def make_images_once() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, (12, 3, 8, 7), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("in_memory", [True, False], ids=["in_memory", "streamed"])
@pytest.mark.parametrize("batch_size", [1, 5, 12])
@pytest.mark.parametrize("keys", [EVERY_KIND[1], EVERY_KIND[-1]], ids=" ".join)
def test_draws_belong_to_the_sample_and_the_epoch(keys: dict[str, Any], batch_size: int, in_memory: bool) -> None:
    wanted = seen_in_epoch(keys, 3, batch_size=4)
    assert torch.equal(seen_in_epoch(keys, 3, batch_size=batch_size, in_memory=in_memory), wanted)
    assert not torch.equal(seen_in_epoch(keys, 4, batch_size=batch_size, in_memory=in_memory), wanted)
    assert not torch.equal(seen_in_epoch(keys, 3, batch_size=batch_size, in_memory=in_memory, seed=1), wanted)
