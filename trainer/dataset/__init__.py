"""The registry of data sets: component(seed, *, keys) returns a trainer.data.Data.

A component(seed, options, *, keys) is also given a trainer.data.ReadOptions. It can read the data set as a finished run
does, or report every bad sample.
"""

from trainer.config.registry import Registry

DATASETS = Registry("dataset", __path__)
