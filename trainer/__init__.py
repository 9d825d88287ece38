"""The config-driven training command for PyTorch: configs choose, registries find, one engine trains."""

__version__ = "0.1.0"
