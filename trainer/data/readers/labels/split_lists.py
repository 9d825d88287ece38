"""Lists of the files of a split beside class folders, such as ``testing_list.txt`` of Speech Commands."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainer.config.untrusted_files import check_file, need_memory
from trainer.data.readers.files import Item, Problems
from trainer.data.readers.split_names import split_name

LIST_WORDS = {"list", "lists"}
MEMORY = 4  # memory that a byte of a list takes while it is read


def with_listed_splits(items: Sequence[Item], problems: Problems) -> list[Item] | None:
    """Return the items with the splits of the lists beside their class folders, or in ``meta``; None without lists.

    A line names a file by its path below the folder of the classes, with or without its ending. Files that no list
    names are those of train or, if train has a list, left out. A file that two lists name is a problem.

    Args:
        items: the files in class folders, without splits.
        problems: gets notes about the lists.
    """
    first: dict[str, Path] = {}
    for item in items:
        if item.label not in first:
            first[item.label] = item.content.parent
    if len(first) < 2 or not ({item.split for item in items} <= {""} or all(item.split == "train" for item in items)):
        return None
    root = Path(os.path.commonpath([*first.values()]))
    start = len(f"{root}{os.sep}")
    by_path = {item.place[start:]: at for at, item in enumerate(items)}
    by_path |= {path.rpartition(".")[0]: at for path, at in [*by_path.items()] if path.rpartition(".")[0]}
    splits, read = dict[int, str](), dict[str, Path]()
    for file, split in _lists(root):
        found = {at for line in _lines(file, problems) if (at := by_path.get(line)) is not None}
        if not found:
            continue
        for at in sorted(found):
            if splits.setdefault(at, split) != split:
                problems.add(items[at].place, f"is in {read[splits[at]].name} and in {file.name}")
        read[split] = file
    if not read:
        return None
    problems.notes.append(f"splits by {', '.join(file.name for file in read.values())}")
    hidden = {label for label in first if label.startswith("_")} - {items[at].label for at in splits}
    if hidden and len(read) > 1:  # such as _background_noise_ of the speech commands
        left_out = ", ".join(str(first[label]) for label in sorted(hidden))
        problems.warnings.append(f"{left_out}: left out, as no list names a file of it")
        kept = [at for at, item in enumerate(items) if item.label not in hidden]
        splits = {new: splits[at] for new, at in enumerate(kept) if at in splits}
        items = [items[at] for at in kept]
    if "train" not in read:
        return [item._replace(split=splits.get(at, "train")) for at, item in enumerate(items)]
    if left := len(items) - len(splits):
        problems.warnings.append(f"{left:,} files are in no list of a split and left out")
    return [items[at]._replace(split=split) for at, split in sorted(splits.items())]


def _lists(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file whose name is that of a list of a split, and the split."""
    for folder in (root, root / "meta", root.parent, root.parent / "meta"):
        for file in sorted(folder.glob("*.txt")):
            name = split_name(file.stem)
            if name is not None and name.split and {*name.rest} <= LIST_WORDS:
                yield file, name.split


def _lines(file: Path, problems: Problems) -> list[str]:
    try:
        need_memory(MEMORY * check_file(file).st_size, file)
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        problems.add(file, f"cannot be read: {error.strerror}")
        return []
    return [os.path.normpath(line.strip()) for line in text.splitlines() if line.strip()]
