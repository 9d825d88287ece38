"""The registry of models.

``Component(spec, *, keys)`` is an nn.Module, called as ``model(inputs)``, or ``model(inputs, lengths)`` where the
steps of the samples vary; it returns (batch, ``spec.num_outputs``).
"""

from trainer.config.registry import Registry

MODELS = Registry("model", __path__)
