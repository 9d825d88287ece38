"""The registry of devices: component(*, keys) returns a torch.device, or a ``Placement`` for several."""

from trainer.config.registry import Registry

DEVICES = Registry("device", __path__)
