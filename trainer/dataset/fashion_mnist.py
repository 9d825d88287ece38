"""60,000 + 10,000 pictures of clothes of 28×28 pixels, 10 classes (Xiao, Rasul, Vollgraf 2017)."""

from trainer.dataset import DATASETS
from trainer.dataset._torchvision import torchvision_images

fashion_mnist = DATASETS.register(torchvision_images("fashion_mnist", "FashionMNIST", "FashionMNIST/raw"))
