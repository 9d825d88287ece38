"""The registry of models: Component(spec, *, keys) is an nn.Module called as model(inputs) or model(inputs, lengths)."""

from trainer.registry import Registry

MODELS = Registry("model", __path__)
