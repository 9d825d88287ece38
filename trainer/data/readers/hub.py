"""Data sets of Hugging Face's ``datasets`` library: load their splits, and find the input and target columns."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.config import ConfigError
from trainer.config.messages import did_you_mean, how_to_install
from trainer.config.untrusted_files import at_home, check_file, check_unpacked, need_memory, refusals_of
from trainer.data.readers.files import SPLITS, files_below, roots
from trainer.data.readers.tables.layout import listed

NAME = "huggingface"
# The library's reader for each suffix, without its reader of pickles, as pickles can run code.
READERS = {".parquet": "parquet", ".arrow": "arrow", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
READERS |= {".csv": "csv", ".tsv": "csv"}
# The usual names of target columns. If not exactly one column has class names, the first of these is the target.
TARGETS = ("label", "labels", "class", "target", "fine_label", "category", "sentiment", "intent", "y")
MEMORY_OF_A_CELL = 8  # bytes of a number in a column
TEXTS = ("string", "large_string")
WHOLE = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FRACTIONS = ("float16", "float32", "float64")

Holds = Literal["pictures", "sounds", "texts", "lists", "numbers", "other things"]
HOLDS: tuple[Holds, ...] = ("pictures", "sounds", "texts", "lists", "numbers")  # the search order of input columns


class HubColumns(NamedTuple):
    """The input columns, the target columns, and what the input columns hold."""

    holds: Holds
    inputs: list[str]
    targets: list[str]


def load(path: str | dict[Any, str] | None, config: str | None) -> dict[str, Any]:
    """Return the ``datasets.Dataset`` of each split; the key of a single split is empty, whatever its name.

    Raises:
        ConfigError: the library is missing, or the data set does not exist, or it cannot be reached or read.
    """
    if path is None:
        raise ConfigError("dataset.path: missing; the name of a set, such as ylecun/mnist, or a folder or file of one")
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(f"dataset={NAME}: needs datasets ({error}): {how_to_install('huggingface')}") from error
    datasets.disable_progress_bars()
    for name in ("datasets", "huggingface_hub"):  # both log every attempt to reach the network
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        found = _loaded(datasets, path, config)
    except ConfigError:
        raise
    except Exception as error:
        reasons = [" ".join(str(each).split())[:300] for each in (error, error.__cause__) if each is not None]
        raise ConfigError(
            f"dataset.path: {path}: cannot be loaded: {': '.join(filter(None, reasons)) or type(error).__name__}"
        ) from error
    return _by_split(path, dict(found) if isinstance(found, dict) else {"": found})


def _loaded(datasets: Any, path: str | dict[Any, str] | None, config: str | None) -> Any:
    if isinstance(path, str) and not at_home(path, "dataset.path").exists() and not _looks_local(path):
        return datasets.load_dataset(path, config)
    files = roots(NAME, path)
    place = files.get("")
    for file in files.values():
        if file.is_file():
            _check(file)
    if place is not None and place.is_dir():
        for file in files_below(place):
            _check(file)
        saved = any((place / name).is_file() for name in ("dataset_dict.json", "state.json"))
        return datasets.load_from_disk(str(place)) if saved else datasets.load_dataset(str(place), config)
    if config is not None:
        raise ConfigError(f"dataset.config: files have no configurations, got {config}")
    suffixes = {file.suffix.lower() for file in files.values()}
    if len(suffixes) > 1 or not suffixes <= READERS.keys():
        raise ConfigError(f"dataset.path: {path}: must be a folder, or files of one kind: {', '.join(READERS)}")
    (suffix,) = suffixes
    options = {"sep": "\t"} if suffix == ".tsv" else {}
    named = {split or "train": str(file) for split, file in files.items()}
    return datasets.load_dataset(READERS[suffix], data_files=named, **options)


def _check(file: Path) -> None:
    """Raise ConfigError unless a file is a regular file whose content fits into the memory."""
    with refusals_of(file, "dataset.path"):
        packed = check_file(file).st_size
        if file.suffix.lower() == ".parquet":
            num_bytes = _size_of_parquet(file)
            check_unpacked(packed, num_bytes, file, "if it is meant, save it as .arrow")
            need_memory(num_bytes, file)


def _size_of_parquet(file: Path) -> int:
    """Return the size of the content in bytes; an encoding may hold a value that repeats a billion times in a few.

    It is 0 for a damaged file, of which the library says what is wrong, as of every other file.
    """
    from pyarrow import ArrowException, parquet

    try:
        found = parquet.read_metadata(file)
    except (ArrowException, OSError):
        return 0
    groups = sum(found.row_group(at).total_byte_size for at in range(found.num_row_groups))
    return int(max(groups, MEMORY_OF_A_CELL * found.num_rows * found.num_columns))


def _looks_local(path: str) -> bool:
    """Return whether a path that does not exist looks like a local path, and not like a name on the Hub."""
    return path.count("/") > 1 or path.startswith((".", "/", "~")) or Path(path).suffix.lower() in READERS


def _by_split(path: object, found: dict[str, Any]) -> dict[str, Any]:
    """Return the splits named train, val and test; the key of a single split is empty, whatever its name."""
    if len(found) == 1:
        return {"": next(iter(found.values()))}
    named = {SPLITS[name.lower()]: part for name, part in found.items() if name.lower() in SPLITS}
    if "train" not in named:
        raise ConfigError(f"dataset.path: {path}: has no train split; splits: {', '.join(found)}")
    return named


def choose(features: Any, inputs: str | list[str] | None, targets: str | list[str] | None) -> HubColumns:
    """Return the columns that the keys name; if a key is None, find the columns that fit.

    Args:
        features: the ``datasets.Features`` of train.
        inputs, targets: the keys ``dataset.input`` and ``dataset.target``.

    Raises:
        ConfigError: a column does not exist or does not fit, or no column or several columns fit a key that is None.
    """
    asked = {"input": _as_list(inputs), "target": _as_list(targets)}
    for key, names in asked.items():
        for name in names:
            if name not in features:
                hint = did_you_mean(name, features) or ";"
                raise ConfigError(f"dataset.{key}: {name}: no such column{hint} columns: {listed([*features])}")
    chosen = asked["target"] or _find_target(features)
    found = asked["input"] or _find_inputs({name: kind for name, kind in features.items() if name not in chosen})
    both = [name for name in found if name in chosen]
    if both:
        raise ConfigError(f"dataset.input: {both[0]}: is the target")
    kinds = {held_by(features[name]) for name in found}
    holds = kinds.pop() if len(kinds) == 1 else "other things"
    if holds == "other things" or (holds != "numbers" and len(found) > 1):
        raise ConfigError(
            f"dataset.input: must be one column of pictures, sounds, texts or lists of numbers, or columns of numbers, "
            f"got {listed(found) or 'none'}; columns: {listed([*features])}"
        )
    return HubColumns(holds, found, chosen)


def _as_list(names: str | list[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else names or []


def _find_target(features: Any) -> list[str]:
    labels = [name for name, kind in features.items() if class_names(kind)]
    called = [name for name in TARGETS if name in (labels or features)]
    found = labels if len(labels) == 1 else called[:1]
    if not found:
        raise ConfigError(f"dataset.target: cannot be told; must be one of the columns {listed([*features])}")
    return found


def _find_inputs(features: dict[str, Any]) -> list[str]:
    for kind in HOLDS:
        found = [name for name, feature in features.items() if held_by(feature) == kind]
        if len(found) > 1 and kind != "numbers":
            raise ConfigError(f"dataset.input: cannot be told; must be one of the columns {listed(found)}")
        if found:
            return found
    return []


def class_names(feature: Any) -> Sequence[str]:
    names: Sequence[str] = getattr(feature, "names", None) or ()
    return names


def held_by(feature: Any) -> Holds:
    known: dict[str, Holds] = {"Image": "pictures", "Audio": "sounds"}
    if type(feature).__name__ == "Value" and feature.dtype in TEXTS:
        return "texts"
    if depth(feature) == 0:
        return "numbers"
    return "lists" if depth(feature) in (1, 2) else known.get(type(feature).__name__, "other things")


def depth(feature: Any) -> int | None:
    """Return how deeply the numbers of a feature are nested in lists; None for a feature without numbers."""
    kind = type(feature).__name__
    if kind == "Array2D":
        return 2
    if kind in ("List", "LargeList", "Sequence"):
        inside = depth(feature.feature)
        return None if inside is None else inside + 1
    return 0 if kind in ("Value", "ClassLabel") and feature.dtype in (*WHOLE, *FRACTIONS) else None


def lists(parts: Iterable[Any], column: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Concatenate the lists in a column of all splits.

    Returns:
        The numbers, (steps of all rows, width) float32, NaN where a number is missing, and the number of steps of each
        row, (rows,) int64.

    Raises:
        ConfigError: the width varies, or is 0.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    values, lengths, widths = [], [], set[int]()
    for part in parts:
        stored = part.with_format("arrow")[:].column(column)
        if isinstance(stored.type, pa.ExtensionType):
            stored = pa.chunked_array([chunk.storage for chunk in stored.chunks], stored.type.storage_type)
        lengths.append(pc.fill_null(pc.list_value_length(stored), 0).to_numpy())
        flat, width = pc.list_flatten(stored), 1
        if not pa.types.is_primitive(flat.type):
            wide = pc.unique(pc.fill_null(pc.list_value_length(flat), 0)).to_pylist()
            flat, width = pc.list_flatten(flat), wide[0] if len(wide) == 1 else 0
        widths.add(width)
        values.append(flat.cast(pa.float64()).to_numpy())
    if len(widths) > 1 or 0 in widths:
        raise ConfigError(f"dataset.input: {column}: the lists in its lists must be of one length, and not empty")
    with np.errstate(over="ignore"):
        joined = np.concatenate(values).astype(np.float32).reshape(-1, widths.pop())
    return joined, np.concatenate(lengths).astype(np.int64)


def labels(part: Any, column: str) -> list[str]:
    """Return the class of each row of a split as a text, which is empty for a row without a class."""
    values, names = part[column][:], class_names(part.features[column])
    if names:
        return [names[value] if value is not None and 0 <= value < len(names) else "" for value in values]
    return ["" if value is None else str(value).strip() for value in values]


def place(path: object, split: str, row: int) -> str:
    """Return the place of a row for messages, such as ``imdb: train row 3``; rows are counted from 0."""
    return f"{path if isinstance(path, str) else 'dataset.path'}: {f'{split} row'.strip()} {row}"
