"""Find the table of each split, and leave out those without the column that is predicted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainer.config import ConfigError
from trainer.data.readers.files import Problems
from trainer.data.readers.split_names import find_splits, words_to_type
from trainer.data.readers.tables import formats
from trainer.data.readers.tables.layout import ColumnKey, Layout, listed
from trainer.data.readers.tables.lines import plain_suffix

SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".data", *formats.SUFFIXES)

TargetKey = ColumnKey | list[ColumnKey] | None


def table_files(found: Mapping[str, Path], problems: Problems) -> dict[str, Path]:
    """Return the file of each split; of a folder, the tables in it whose names are those of splits.

    Args:
        found: the file or folder of each split, as ``roots`` returns them.
        problems: receives a warning about tables that are left out.

    Raises:
        ConfigError: a folder has no table of train, or two of one split.
    """
    files: dict[str, Path] = {}
    for split, path in found.items():
        if not path.is_dir():
            files[split] = path
            continue
        tables = [file for file in sorted(path.iterdir()) if file.is_file() and plain_suffix(file) in SUFFIXES]
        named = find_splits(((file.name.partition(".")[0], file) for file in tables), short=True)
        several = next((some for some in named.values() if len(some) > 1), None)
        if split or "train" not in named or several:
            if not tables:
                raise ConfigError(f"dataset.path: {path}: is a folder without a table; must be a file")
            names = listed([file.name for file in tables])
            example = words_to_type((several or tables)[0])
            raise ConfigError(f"dataset.path: {path}: is a folder with {names}; name one of them, such as {example}")
        files |= {part: some[0] for part, some in named.items()}
        if others := [file for file in tables if file not in files.values()]:
            problems.warnings.append(
                f"{path}: left out, as no tables of train, val and test: {listed([file.name for file in others])}"
            )
    return files


def labelled_tables(
    layouts: Mapping[str, Layout], first: Layout, target: TargetKey, problems: Problems
) -> tuple[dict[str, Layout], TargetKey]:
    """Leave out the tables of val and test without the target, such as the test table of a competition.

    Args:
        layouts: the layout of each split's table.
        first: that of train.
        target: the key ``dataset.target``; None if it is to be found.
        problems: receives a warning for each table that is left out.

    Returns:
        The other tables, and the target: if it is None, the only column of train that such a table lacks.
    """
    wanted = [each for each in (target if isinstance(target, list) else [target]) if isinstance(each, str)]
    others = [layout for split, layout in layouts.items() if split in ("val", "test") and layout.header]
    if target is None and first.header:
        lacking = {name for layout in others for name in first.names if name not in layout.names}
        target = wanted[0] if (wanted := [*lacking][:1]) and len(lacking) == 1 else None
    kept = {}
    for split, layout in layouts.items():
        lost = [name for name in wanted if name in first.names and name not in layout.names]
        if layout in others and lost:
            text = f"{layout.file}: left out, as it has no column {lost[0]}; {split} is cut from train"
            problems.warnings.append(f"{text}; trainer predict reads it")
        else:
            kept[split] = layout
    return kept, target
