"""Read text files of numbers between spaces, a sample a line, as UCI's "Human Activity Recognition" set has them.

A folder holds ``train/X_train.txt`` and ``train/y_train.txt``, the same for test, perhaps ``activity_labels.txt`` with
a number and a name a line, and perhaps ``Inertial Signals/*_train.txt``, each a channel of a sequence.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainer.config.untrusted_files import check_file, need_memory
from trainer.data.readers.arrays.stores import Array, Header, WrongFormError, too_large
from trainer.data.readers.files import SPLITS, natural_key

CLASS_NAMES = "activity_labels.txt"
SIGNALS = "Inertial Signals"
MEMORY = 2  # memory that a byte of text takes when it is read: a number of eight characters becomes 8 bytes, twice
MAX_NAMES = 1 << 20  # bytes of the file with the names of the classes


def open_folder(folder: Path) -> NumberTexts | None:
    """Return the store of a folder; None if no folder of a split holds such files."""
    files: dict[str, list[Path]] = {}
    for part in sorted(folder.iterdir()):
        if not part.is_dir() or part.name.lower() not in SPLITS:
            continue
        for file in part.glob(f"*_{part.name}.txt"):
            files[file.stem] = [file]
        signals = sorted(part.glob(f"{SIGNALS}/*_{part.name}.txt"), key=lambda file: natural_key(file.name))
        if signals:
            files[f"signals_{part.name}"] = signals
    has_inputs = any(name.lower().startswith(("x_", "signals_")) for name in files)
    return NumberTexts(folder, files) if has_inputs else None


class NumberTexts:
    """The arrays ``X``, ``y`` and others of each split by the names of their files; ``signals`` are all channels."""

    has_whole_floats = True

    def __init__(self, folder: Path, files: dict[str, list[Path]]) -> None:
        self._folder, self._files = folder, files
        self.names = [*files]

    def header(self, name: str) -> Header:
        """Return the header, for which the first line is enough, except for the number of lines."""
        files = self._files[name]
        check_file(files[0])
        with files[0].open("rb") as opened:
            width = len(opened.readline(1 << 20).split())
            rows = 1 + sum(block.count(b"\n") for block in iter(lambda: opened.read(1 << 20), b""))
        if name.startswith("signals_"):
            return Header((rows, width, len(files)), np.dtype(np.float32))
        return Header((rows,) if width == 1 else (rows, width), np.dtype(np.float64))

    def read(self, name: str) -> Array:
        files = self._files[name]
        for file in files:
            with too_large(file.name):
                need_memory(MEMORY * sum(check_file(each).st_size for each in files), file)
        if name.startswith("signals_"):
            channels = [_numbers(file).astype(np.float32) for file in files]
            if len({channel.shape for channel in channels}) > 1:
                raise WrongFormError("channels of different shapes")
            return np.stack(channels, axis=-1)
        values = _numbers(files[0])
        values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        names = self._class_names() if name.lower().startswith("y_") and values.ndim == 1 else {}
        if names and all(value in names for value in np.unique(values).tolist()):
            return np.array([names[value] for value in values.tolist()])
        return values

    def _class_names(self) -> dict[float, str]:
        """Return the name of each class by its number; empty without a file of names."""
        file = self._folder / CLASS_NAMES
        if not file.is_file() or file.stat().st_size > MAX_NAMES:
            return {}
        rows = [line.split(maxsplit=1) for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
        return {float(row[0]): row[1].strip() for row in rows if len(row) == 2 and row[0].isdecimal()}


def _numbers(file: Path) -> Array:
    """Return the numbers of a file, (lines, numbers of a line) float64.

    Raises:
        WrongFormError: a line holds something else, or another count of numbers.
    """
    try:
        return np.loadtxt(file, dtype=np.float64, ndmin=2)
    except ValueError as error:
        raise WrongFormError(f"{file.name}: {error}") from error
