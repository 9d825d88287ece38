"""The registry of models.

``Component(spec, *, keys)`` returns an nn.Module. The module is called with ``(inputs)``, or with ``(inputs, lengths)``
if the number of steps varies, and returns (batch, ``spec.num_outputs``).
"""

from trainer.config.registry import Registry

MODELS = Registry("model", __path__)
