"""Classifiers of torchvision: their outputs, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.helpers import defaults, image_spec, make_spec
from trainer.config import ConfigError
from trainer.data.torchvision_import import torchvision
from trainer.model import MODELS
from trainer.spec import Spec


def build(spec: Spec, **keys: Any) -> Any:
    return MODELS.build(defaults("model", "torchvision", **keys), spec)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("arch", "size"),
    [
        ("resnet18", None),
        ("mobilenet_v3_small", None),
        ("squeezenet1_1", None),
        ("shufflenet_v2_x0_5", 48),
        ("googlenet", 64),  # has auxiliary heads, as inception_v3
        ("inception_v3", 75),
    ],
)
def test_classifier_answers_once_for_each_output(arch: str, size: int | None, channels: int) -> None:
    model = build(image_spec(channels, 32, 36, classes=2, num_outputs=5), arch=arch, size=size)
    images = torch.randn(2, channels, 32, 36)
    with torch.no_grad():
        for training in (True, False):
            outputs = model.train(training)(images)
            assert isinstance(outputs, torch.Tensor)
            assert outputs.shape == (2, 5) and outputs.isfinite().all()


def test_vision_transformer_is_made_for_the_size_of_the_images() -> None:
    model = build(image_spec(1, 32, 32, num_outputs=5), arch="vit_b_32").eval()
    with torch.no_grad():
        assert model(torch.randn(2, 1, 32, 32)).shape == (2, 5)


def test_max_vit_can_be_built() -> None:
    last = list(build(image_spec(3, 224, 224, num_outputs=5), arch="maxvit_t").parameters())[-1]
    assert last.shape[0] == 5


def test_default_is_torchvisions_resnet18() -> None:
    model, theirs = build(image_spec(3, 32, 32, classes=7)).eval(), torchvision.models.resnet18(num_classes=7).eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), model.state_dict().values(), strict=True)))
    theirs.to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images), theirs(images))


def test_grey_image_is_given_to_all_three_colours() -> None:
    grey, colour = (build(image_spec(channels, 32, 32), arch="squeezenet1_1").eval() for channels in (1, 3))
    colour.load_state_dict(grey.state_dict())
    images = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(grey(images), colour(torch.cat([images] * 3, dim=1)))


def test_size_resizes_bilinearly_first() -> None:
    resized, plain = (build(image_spec(3, 20, 30), arch="squeezenet1_1", size=size).eval() for size in (40, None))
    plain.load_state_dict(resized.state_dict())
    images = torch.randn(2, 3, 20, 30)
    larger = F.interpolate(images, (40, 40), mode="bilinear", antialias=True)
    with torch.no_grad():
        assert torch.equal(resized(images), plain(larger))


def test_answer_ends_in_a_sigmoid_where_the_loss_wants_probabilities() -> None:
    logits, probabilities = (
        build(image_spec(3, 32, 32, classes=2, num_outputs=1, sigmoid=sigmoid), arch="squeezenet1_1").eval()
        for sigmoid in (False, True)
    )
    probabilities.load_state_dict(logits.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(probabilities(images), logits(images).sigmoid())


@pytest.mark.parametrize(("wrong", "right"), [("resnet19", "resnet18"), ("mobilnet_v2", "mobilenet_v2")])
def test_unknown_classifier_is_refused_with_the_nearest_name(wrong: str, right: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(image_spec(3, 32, 32), arch=wrong)
    assert f"model.arch={wrong}" in str(refused.value) and f"did you mean {right}?" in str(refused.value)


def test_segmentation_network_is_no_classifier() -> None:
    with pytest.raises(ConfigError, match=r"model\.arch=fcn_resnet50"):
        build(image_spec(3, 32, 32), arch="fcn_resnet50")


@pytest.mark.parametrize(
    "spec",
    [
        make_spec("sequence", (8, 3), dataset="ticks"),
        make_spec("table", (8,), dataset="ticks"),
        make_spec("tokens", (8,), vocabulary=5, dataset="ticks"),
        make_spec("image", (4, 8, 8), dataset="ticks"),
    ],
    ids=["sequence", "table", "tokens", "four channels"],
)
def test_what_is_no_grey_or_colour_image_is_refused_with_model_and_dataset(spec: Spec) -> None:
    with pytest.raises(ConfigError) as refused:
        build(spec)
    message = str(refused.value)
    assert "model=torchvision" in message and "dataset=ticks" in message and spec.kind in message


@pytest.mark.parametrize("arch", ["mobilenet_v3_small", "squeezenet1_1"])
def test_probabilities_are_float32_under_autocast(arch: str) -> None:
    model = build(image_spec(3, 32, 32, sigmoid=True), arch=arch).eval()
    *_, last = (module for module in model.network.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d))
    torch.nn.init.constant_(last.get_parameter("bias"), 7.53)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(torch.zeros(2, 3, 32, 32))
    assert outputs.dtype == torch.float32
    assert 0.999 < outputs[0, 0].item() < 1  # bfloat16 has no number between 0.9961 and 1
