"""60,000 + 10,000 cursive Japanese characters of 28×28 pixels, 10 classes (Clanuwat et al. 2018)."""

from trainer.dataset import DATASETS
from trainer.dataset._torchvision import torchvision_images

kmnist = DATASETS.register(torchvision_images("kmnist", "KMNIST", "KMNIST/raw"))
