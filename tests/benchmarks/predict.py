"""How fast ``trainer predict`` answers for picture files, beside the loop that everyone writes, over the same files.

    python -m tests.benchmarks.predict --data data [--pictures 10000] [--rounds 5]

Both are whole commands, in turn: start, weights, every file decoded, a CSV file with the class and all probabilities.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOOP = """
import csv, json, sys
from pathlib import Path
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset
from trainer.data.torchvision_import import torchvision

class Files(Dataset):
    def __init__(self, folder, mean, std):
        self.files = sorted(Path(folder).rglob("*.png"))
        transforms = torchvision.transforms
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    def __len__(self):
        return len(self.files)
    def __getitem__(self, at):
        return self.transform(Image.open(self.files[at]).convert("L"))

if __name__ == "__main__":
    folder, weights, mean, std, output, workers = sys.argv[1:]
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10),
    ).eval()
    found = load_file(weights)
    names = [f"{layer}.{each}" for layer in ("blocks.0", "blocks.3", "head.1", "out") for each in ("weight", "bias")]
    model.load_state_dict({own: found[name] for own, name in zip(model.state_dict(), names)})
    files = Files(folder, [float(mean)], [float(std)])
    loader, at = DataLoader(files, batch_size=128, num_workers=int(workers)), 0
    with open(output, "w", newline="") as file, torch.inference_mode():
        rows = csv.writer(file)
        rows.writerow(["file", "class", *range(10)])
        for images in loader:
            for scores in model(images).softmax(1).tolist():
                rows.writerow([files.files[at], scores.index(max(scores)), *scores])
                at += 1
"""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\\n")[0])
    parser.add_argument("--data", required=True, help="a folder with MNIST in it")
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_pictures(folder / "pictures", arguments.data, arguments.pictures)
        words = ["dataset=mnist", f"dataset.root={arguments.data}", "epochs=1", "batch_size=128", "logger=none"]
        subprocess.run([*_module("cli"), *words, f"run_dir={folder / 'run'}"], check=True, stdout=subprocess.DEVNULL)
        (folder / "loop.py").write_text(LOOP)
        weights = folder / "run" / "checkpoints" / "best.safetensors"
        mean, std = _scale(folder / "run")
        loop = [sys.executable, str(folder / "loop.py"), str(folder / "pictures"), str(weights), mean, std]
        ours = [*_module("trainer"), "predict", str(folder / "run"), str(folder / "pictures"), "-o", "{}"]
        commands = {"trainer predict": ours}
        commands |= {f"a loop, {count} workers": [*loop, "{}", str(count)] for count in (0, 2)}
        seconds: dict[str, list[float]] = {each: [] for each in commands}
        for _ in range(arguments.rounds):
            for number, (each, command) in enumerate(commands.items()):
                seconds[each].append(_timed([word.format(folder / f"{number}.csv") for word in command]))
        _compare(folder / "0.csv", folder / "1.csv")
    ratio = statistics.median(seconds["trainer predict"])
    for each, found in seconds.items():
        middle = statistics.median(found)
        print(
            f"{each:<18} {middle:6.2f} s ({min(found):.2f} to {max(found):.2f})  "
            f"{arguments.pictures / middle:8,.0f} a second  {middle / ratio:.2f} times as long as trainer predict"
        )


def _scale(run: Path) -> list[str]:
    """Mean and standard deviation, of pixels from 0 to 1."""
    from trainer import load

    found = load(str(run)).preprocessing["normalise"]
    return [str(found[name][0] / 255) for name in ("mean", "std")]


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


def _write_pictures(folder: Path, root: str, count: int) -> None:
    from PIL import Image

    from trainer.data.torchvision_import import torchvision

    pictures = torchvision.datasets.MNIST(root, train=False).data
    folder.mkdir()
    for number in range(count):
        Image.fromarray(pictures[number % len(pictures)].numpy()).save(folder / f"{number:06}.png")


def _timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def _compare(ours: Path, loop: Path) -> None:
    """Both have to say the same of the same files."""
    one, other = ({row[0]: row[1] for row in csv.reader(file.open())} for file in (ours, loop))
    same = sum(one[name].partition(" ")[0] == said for name, said in list(other.items())[1:])  # of "7 - seven"
    assert same == len(other) - 1, f"{same} of {len(other) - 1} answers are the same"


if __name__ == "__main__":
    main()
