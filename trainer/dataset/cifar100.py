"""50,000 + 10,000 colour pictures of 32×32 pixels, 100 classes (Krizhevsky 2009)."""

from trainer.dataset import DATASETS
from trainer.dataset._torchvision import torchvision_images

cifar100 = DATASETS.register(torchvision_images("cifar100", "CIFAR100", "cifar-100-python"))
