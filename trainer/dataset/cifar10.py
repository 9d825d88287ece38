"""50,000 + 10,000 colour pictures of 32×32 pixels, 10 classes (Krizhevsky 2009)."""

from trainer.dataset import DATASETS
from trainer.dataset._torchvision import torchvision_images

cifar10 = DATASETS.register(torchvision_images("cifar10", "CIFAR10", "cifar-10-batches-py"))
