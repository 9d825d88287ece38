"""Data sets, and the loading of their raw samples into batches on a device."""

from trainer.data.data import Augmentation as Augmentation
from trainer.data.data import Data as Data
from trainer.data.data import Features as Features
from trainer.data.data import Mix as Mix
from trainer.data.data import Normalise as Normalise
from trainer.data.data import ReadOptions as ReadOptions
from trainer.data.data import check_classes as check_classes
from trainer.data.data import class_counts as class_counts
from trainer.data.data import generator as generator
from trainer.data.data import split_off as split_off
from trainer.data.sources import Inputs as Inputs
from trainer.data.sources import RaggedSource as RaggedSource
from trainer.data.sources import Resident as Resident
from trainer.data.sources import Source as Source
from trainer.data.sources import Split as Split
from trainer.data.sources import TensorSource as TensorSource
