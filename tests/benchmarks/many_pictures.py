"""What many pictures cost before the first step, by class folders and by a table: seconds and memory.

    python -m tests.benchmarks.many_pictures 200000

Makes so many small files in a temporary folder, which it removes, and trains one step on a quarter of them and on all.
Seconds are those of the whole command; memory is the most that its process had. ``digits`` shows what they are without
pictures. Both have to grow no faster than the list of files: the last column is what a picture more takes.
"""

from __future__ import annotations

import argparse
import io
import itertools
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks._process import Run, run

SIZE = 32  # pixels
DIFFERENT = 300  # pictures; their files are copies
CLASSES = 10
COMMAND = ("-m", "cli", "max_steps=1", "limit_batches=1", "logger=none", "device=cpu", "device.threads=1")


def make(folder: Path, count: int) -> None:
    """Files of random pixels in class folders, every second one a JPEG, and a table that names them."""
    random, contents = np.random.default_rng(0), []
    for number in range(DIFFERENT):
        file, form = io.BytesIO(), ("png", "jpeg")[number % 2]
        Image.fromarray(random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(file, form)
        contents.append((file.getvalue(), form))
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
    rows = ["filename,label"]
    for number in range(count):
        content, form = contents[number % DIFFERENT]
        (folder / f"class{number % CLASSES}" / f"{number}.{form}").write_bytes(content)
        rows.append(f"{number}.{form},class{number % CLASSES}")
    table(folder).write_text("\n".join(rows))


def table(folder: Path) -> Path:
    """The table that names the pictures of a folder."""
    return folder.with_suffix(".csv")


def cost(*words: str) -> Run:
    """Run a command that must not fail."""
    done = run([*COMMAND, *words], Path())
    if done.code != 0:
        raise SystemExit(f"failed: {' '.join(words)}\n{done.output[-1000:]}")
    return done


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=int, nargs="?", default=200_000)
    count = parser.parse_args().pictures
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        runs = f"run_dir={folder / 'runs'}/${{now:%H-%M-%S-%f}}"
        cost("dataset=digits", runs)  # reads what is on the disk for the first time
        base = cost("dataset=digits", runs)
        print(f"{'digits':<28}{base.seconds:7.1f} s  {base.mebibytes:7.0f} MiB")
        few = dict[tuple[str, str], Run]()
        for number, name in ((count // 4, "quarter"), (count, "all")):
            make(folder / name, number)
            labels = {"folders": "null", "table": str(table(folder / name))}
            for by, in_memory in itertools.product(labels, ("true", "false", "auto")):
                words = ("dataset=image_folder", f"dataset.path={folder / name}", f"dataset.in_memory={in_memory}")
                now = cost(*words, f"dataset.labels={labels[by]}", runs)
                line = f"{number:>9,}  {by:<8} in_memory={in_memory:<7}{now.seconds:7.1f} s  {now.mebibytes:7.0f} MiB"
                if name == "quarter":
                    few[by, in_memory] = now
                else:
                    more, less = number - count // 4, few[by, in_memory]
                    microseconds = (now.seconds - less.seconds) / more * 1e6
                    kibibytes = (now.mebibytes - less.mebibytes) / more * 2**10
                    line += f"  {microseconds:6.0f} µs and {kibibytes:5.2f} KiB a picture more"
                print(line, flush=True)


if __name__ == "__main__":
    main()
