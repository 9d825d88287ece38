"""What a data set hands over, and how it becomes batches on a device."""

from trainer.data.data import Data as Data
from trainer.data.data import Normalise as Normalise
from trainer.data.data import RaggedSource as RaggedSource
from trainer.data.data import ReadOptions as ReadOptions
from trainer.data.data import Source as Source
from trainer.data.data import Split as Split
from trainer.data.data import TensorSource as TensorSource
from trainer.data.data import split_off as split_off
