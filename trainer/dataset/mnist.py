"""60,000 + 10,000 hand-written digits of 28×28 pixels, 10 classes (LeCun, Cortes, Burges)."""

from trainer.dataset import DATASETS
from trainer.dataset._torchvision import torchvision_images

mnist = DATASETS.register(torchvision_images("mnist", "MNIST", "MNIST/raw"))
