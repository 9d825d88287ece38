"""The registry of data sets: component(seed, *, keys) returns a trainer.data.Data."""

from trainer.config.registry import Registry

DATASETS = Registry("dataset", __path__)
