"""How digits.safetensors was made from scikit-learn's copy: python -m tests.dataset.make_digits FILE."""

from __future__ import annotations

import sys

import torch
from safetensors.torch import save_file

SOURCE = {
    "source": "Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, "
    "archive.ics.uci.edu/dataset/80; the 1,797 images of its test file, as scikit-learn's load_digits has them",
    "authors": "E. Alpaydin, C. Kaynak (1998)",
    "licence": "Creative Commons Attribution 4.0 International (CC BY 4.0)",
    "images": "(1797, 1, 8, 8) uint8, 0 to 16",
    "labels": "(1797,) uint8, 0 to 9",
}


def tensors() -> dict[str, torch.Tensor]:
    """Images and labels as the file holds them."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).to(torch.uint8).unsqueeze(1).contiguous()
    return {"images": images, "labels": torch.from_numpy(digits.target).to(torch.uint8)}


if __name__ == "__main__":
    save_file(tensors(), sys.argv[1], metadata=SOURCE)
