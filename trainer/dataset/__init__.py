"""The registry of data sets: component(seed, *, keys) returns a trainer.data.Data.

A component that can also be read for a finished run, or only to be looked at, is component(seed, options, *, keys) with
a trainer.data.ReadOptions.
"""

from trainer.config.registry import Registry

DATASETS = Registry("dataset", __path__)
