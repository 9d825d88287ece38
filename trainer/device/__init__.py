"""The registry of devices: ``component(*, keys)`` returns a ``torch.device``, or a ``Placement`` on several devices."""

from trainer.config.registry import Registry

DEVICES = Registry("device", __path__)
