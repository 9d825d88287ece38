"""The registry of optimizers: ``component(parameters, *, keys)`` returns a torch.optim.Optimizer."""

from trainer.config.registry import Registry

OPTIMIZERS = Registry("optimizer", __path__)
