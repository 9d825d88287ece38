"""The registry of data sets. Each component is a function component(seed, *, keys) that returns a trainer.data.Data.

A component with the signature component(seed, options, *, keys) also gets a trainer.data.ReadOptions, so that it can
read the data set in the same way as for a finished run, or report every bad sample.
"""

from trainer.config.registry import Registry

DATASETS = Registry("dataset", __path__)
