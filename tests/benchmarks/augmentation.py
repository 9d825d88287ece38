"""What augmentation costs: images per second, of whole batches here and sample by sample with torchvision.

    python -m tests.benchmarks.augmentation --rounds 15

Images of random bytes go the whole way to what a model reads: shuffled, fetched, augmented, normalised, in a batch. The
ways take turns in one process, each as long as the others, and every round compares each way with the first one, so
that a machine that is busy for a while is busy for all; the table has the medians, and the least and the most. On a
machine that is busy with something else ``--threads 1`` says more: threads that wait for one another suffer most.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.speed import machine, print_table, spread
from tests.helpers import loaders_of
from trainer.data import Data, Normalise, Split, TensorSource
from trainer.data.augment_images import OFF, Augment
from trainer.data.mixup import MixImages
from trainer.data.torchvision_import import torchvision
from trainer.memory import keep_freed_memory
from trainer.spec import Spec

SAMPLES, BATCH_SIZE, SIZE, CLASSES = 12800, 128, 32, 10
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)  # of channels from 0 to 1
WAYS: dict[str, dict[str, Any]] = {  # of this project, with the keys under dataset.augment
    "crop=4 flip=true": {"crop": 4, "flip": True},
    "rotate=15": {"rotate": 15.0},
    "color=0.3": {"color": 0.3},
    "erase=0.5": {"erase": 0.5},
    "policy=trivial": {"policy": "trivial"},
    "mixup=0.2": {"mixup": 0.2},
    "nothing": {},
}


class Samples(Dataset[tuple[Tensor, int]]):
    """One by one, as every tutorial has it."""

    def __init__(self, images: list[Any] | Tensor, change: Callable[[Any], Tensor]) -> None:
        self.images, self.change = images, change

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.change(self.images[number]), number % CLASSES

    def __len__(self) -> int:
        return len(self.images)


def by_sample(images: Tensor) -> dict[str, Iterable[Any]]:
    """The loaders of torchvision's transforms, of both of its generations."""
    v1, v2 = torchvision.transforms, importlib.import_module("torchvision.transforms.v2")
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    on_pictures = v1.Compose(
        [v1.RandomCrop(SIZE, padding=4), v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(MEAN, STD)]
    )
    on_tensors = v2.Compose(
        [
            v2.RandomCrop(SIZE, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    load = partial(DataLoader[Any], batch_size=BATCH_SIZE, shuffle=True)
    return {
        "torchvision v1, PIL, by sample: crop and flip": load(Samples(pictures, on_pictures)),
        "torchvision v2, tensors, by sample: crop and flip": load(Samples(images, on_tensors)),
    }


def by_batch(images: Tensor, keys: dict[str, Any]) -> Iterable[Any]:
    """The training batches of this project."""
    split = Split.all(TensorSource((images,), torch.arange(SAMPLES) % CLASSES))
    spec = Spec("made_up", "image", tuple(images.shape[1:]), "classification", tuple(map(str, range(CLASSES))))
    every = {**OFF, **keys}
    data = Data(
        spec,
        split,
        None,
        split,
        normalise=Normalise(torch.tensor(MEAN) * 255, torch.tensor(STD) * 255),
        augment=Augment.from_keys(every),  # type: ignore[arg-type]
        mix=MixImages.from_keys(every, SIZE, SIZE),  # type: ignore[arg-type]
    )
    return Epochs(loaders_of(data, BATCH_SIZE).train.epoch)


class Epochs:
    """One after the other, each with draws of its own."""

    def __init__(self, batches: Callable[[int], Iterable[Any]]) -> None:
        self.batches, self.epoch = batches, 0

    def __iter__(self) -> Iterator[Any]:
        self.epoch += 1
        return iter(self.batches(self.epoch))


def rate(batches: Iterable[Any], seconds: float) -> float:
    """Images per second, of whole epochs that take so long together, or the last of them longer."""
    epochs, started = 0, time.perf_counter()
    while (now := time.perf_counter() - started) < seconds:
        for _ in batches:
            pass
        epochs += 1
    return epochs * SAMPLES / now


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each way in a round, at least one epoch")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kept = keep_freed_memory(True)  # as the command does
    torch.manual_seed(0)
    images = torch.randint(0, 256, (SAMPLES, len(MEAN), SIZE, SIZE), dtype=torch.uint8)
    ways = by_sample(images) | {f"here, by batch: {name}": by_batch(images, keys) for name, keys in WAYS.items()}
    rates = {name: list[float]() for name in ways}
    for number in range(options.rounds + 1):
        for name, batches in ways.items():
            now = rate(batches, options.seconds)
            if number > 0:  # the first round warms up
                rates[name].append(now)
    print(f"{machine()}; {options.threads} threads, freed memory {'kept' if kept else 'handed back'}")
    print(f"{SAMPLES} images of 3 x {SIZE} x {SIZE} bytes, batches of {BATCH_SIZE}, {options.rounds} rounds\n")
    first, table = next(iter(rates.values())), [["way", "images/s", "ratio"]]
    for name, values in rates.items():
        ratios = [value / base for value, base in zip(values, first, strict=True)]
        table.append([name, spread(values, 0), spread(ratios, 1)])
    print_table(table)


if __name__ == "__main__":
    main()
