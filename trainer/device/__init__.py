"""The registry of devices: component(*, keys) returns a torch.device."""

from trainer.registry import Registry

DEVICES = Registry("device", __path__)
