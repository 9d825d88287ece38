"""Any image classifier of torchvision, with random weights."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

from trainer.config import ConfigError
from trainer.config.errors import one_line
from trainer.config.messages import unknown_option
from trainer.model import MODELS
from trainer.model._batch_norm import drop_biases_before_norms
from trainer.model._sequence import LastLinear
from trainer.spec import Spec


@MODELS.register
class Torchvision(nn.Module):
    """A torchvision classifier with ``spec.num_outputs`` outputs.

    Images of one channel are copied to all three colour channels.

    Args:
        spec: images (batch, channels, height, width) of 1 or 3 channels, or spectrograms (batch, 1, steps, bands).
        arch: a name of ``torchvision.models.list_models(module=torchvision.models)``.
        size: resize the images to size × size with bilinear interpolation; None keeps their size.

    Returns:
        (batch, ``spec.num_outputs``).

    Raises:
        ConfigError: the samples are not images of 1 or 3 channels, ``arch`` does not exist, or the classifier cannot
            read images of this size.
    """

    def __init__(self, spec: Spec, *, arch: str, size: Annotated[int, Meta(ge=8)] | None) -> None:
        from trainer.data.torchvision_import import torchvision

        super().__init__()
        if spec.kind not in ("image", "spectrogram") or spec.shape[0] not in (1, 3):
            raise ConfigError(
                f"model=torchvision: reads images of 1 or 3 channels and spectrograms; dataset={spec.dataset} is {spec}"
            )
        names = torchvision.models.list_models(module=torchvision.models)
        if arch not in names:
            raise ConfigError(unknown_option("model.arch", arch, names))
        builder = torchvision.models.get_model_builder(arch)
        options = {"num_classes": spec.num_outputs}
        if arch.startswith("vit_"):
            options["image_size"] = size or spec.shape[1]
        if arch in ("googlenet", "inception_v3"):  # without auxiliary heads, which would return a tuple
            options |= {"aux_logits": False, "init_weights": True}
        self.size, self.steps = size, spec.shape[1]
        self.last = nn.Sigmoid() if spec.sigmoid else nn.Identity()  # both in float32
        try:  # only a forward pass shows whether the classifier can read images of this size
            self.network: nn.Module = builder(weights=None, **options)
            *_, last = (module for module in self.network.modules() if type(module) in (nn.Linear, nn.Conv2d))
            if type(last) is nn.Linear:  # the last layer of squeezenet is a convolution
                last.__class__ = LastLinear
            drop_biases_before_norms(self.network)  # VGG has such biases
            self.network.to(memory_format=torch.channels_last)  # see cnn.py
            with torch.no_grad():
                self.eval()(torch.zeros(1, *spec.shape))
        except (AssertionError, RuntimeError) as error:
            raise ConfigError(
                f"model.arch={arch}: cannot read images of {'×'.join(map(str, spec.shape))} "
                f"({one_line(error, 120)}); resize them, as in model.size=224"
            ) from error
        self.train()

    def forward(self, images: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Classify images, or spectrograms, which are first padded to ``spec.shape``; return (batch, outputs)."""
        if lengths is not None:
            images = F.pad(images, [0, 0, 0, self.steps - images.shape[2]])
        if self.size is not None:
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        outputs: Tensor = self.last(self.network(images.expand(-1, 3, -1, -1)).float())
        return outputs
