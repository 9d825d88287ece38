"""Find labelled texts: in tables, in text files of splits or of classes, and in class folders."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from trainer.config import ConfigError
from trainer.data.readers.encodings import unknown_encoding
from trainer.data.readers.files import Item, Problems, keep_suffixes, natural_key, roots
from trainer.data.readers.labels.folder_tree import folders_in
from trainer.data.readers.labels.folders import class_folders
from trainer.data.readers.split_names import find_splits, listed, said_short, split_name, words_to_type
from trainer.data.readers.tables.lines import plain_suffix
from trainer.data.readers.texts.text_files import (
    DOCUMENT,
    class_files,
    find_parallel,
    form_of,
    is_about,
    is_good,
    labelled_lines,
    lines_of,
    parallel_texts,
    read_text,
)
from trainer.data.readers.texts.text_tables import (
    LABEL_NAMES,
    TABLES,
    TEXT_NAMES,
    TextColumns,
    find_text_columns,
    table_texts,
)

MAX_FILES_OF_SET = 50  # a folder with more files is no data set, whatever the names of its files are


def find_texts(
    dataset: str, path: Any, columns: TextColumns, encoding: str, problems: Problems, settled: Sequence[str] = ()
) -> Iterator[Item]:
    """Yield every labelled text of the files and folders that ``dataset.path`` names.

    ``settled`` has the classes of a finished run, as in ``class_folders``.

    Raises:
        ConfigError: a path or a column is missing, or a path has no texts in a known format.
    """
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise unknown_encoding(encoding) from error
    found = roots(dataset, path)
    if all(map(Path.is_file, found.values())):
        yield from _in_files(found, columns, encoding, problems)
        return
    if "" not in found and all(map(Path.is_dir, found.values())) and any(map(_has_class_folders, found.values())):
        yield from _class_folders(dataset, path, [DOCUMENT], encoding, problems, settled)
        return
    for split, root in found.items():
        if root.is_file():
            yield from _in_files({split: root}, columns, encoding, problems)
        else:
            classes = None if split else {"train": root}
            yield from _in_folder(_Folder(dataset, split, root, classes, settled), columns, encoding, problems)


def _in_files(files: Mapping[str, Path], columns: TextColumns, encoding: str, problems: Problems) -> Iterator[Item]:
    """Yield the texts of the file of each split: of a table, or of a text file with a label in each line.

    The text files of all splits have the form of the first, which is train.
    """
    form = None
    known = _columns_of_train(files, columns, encoding)
    for split, file in files.items():
        if columns.has_table(file) or file.suffix.lower() != DOCUMENT:
            yield from table_texts(split, file, known, encoding, problems)
            continue
        train = files.get("train", file)
        form = form or form_of(train, encoding, problems)
        if form == "table":
            keyed = _tab_columns(train, columns, encoding)
            yield from table_texts(split, file, keyed, encoding, problems)
        else:
            yield from labelled_lines(split, file, form, encoding, problems)


def _columns_of_train(files: Mapping[str, Path], columns: TextColumns, encoding: str) -> TextColumns:
    """Return the columns of the table of train, which those of the other splits must have too."""
    train = files.get("train")
    if len(files) < 2 or train is None or not columns.has_table(train):
        return columns
    layout = columns.layout(train, encoding)
    if not layout.names:
        return columns
    found = find_text_columns(layout, columns)
    inputs, targets = (
        [layout.names[at] if layout.header else at for at in each] for each in (found.inputs, found.targets)
    )
    return replace(columns, input=columns.wanted or inputs, target=columns.targets or targets)


def _labelled(files: Mapping[str, Path], columns: TextColumns, encoding: str, problems: Problems) -> dict[str, Path]:
    """Return the files without the tables of val and test that lack a target of train; a warning names these."""
    targets = [name for name in _columns_of_train(files, columns, encoding).targets if isinstance(name, str)]
    kept = {}
    for split, file in files.items():
        lacking = []
        if (
            split != "train"
            and targets
            and columns.has_table(file)
            and (layout := columns.layout(file, encoding)).header
        ):
            lacking = [name for name in targets if name not in layout.names]
        if lacking:
            problems.warnings.append(f"{file}: left out, as it has no column {lacking[0]}; {split} is cut from train")
        else:
            kept[split] = file
    return kept


def _tab_columns(train: Path, columns: TextColumns, encoding: str) -> TextColumns:
    """Return the columns of text files with tabs, as the file of train says: the label is what repeats."""
    rows = [line.split("\t") for line in lines_of(train, encoding) if line.strip()]
    columns = replace(columns, delimiter="\t")
    if len(rows[0]) != 2 or columns.wanted or columns.target is not None:
        return columns
    header = columns.header
    if header == "auto":
        header = all(cell.strip().lower() in (*TEXT_NAMES, *LABEL_NAMES) for cell in rows[0])
    first, second = (len({row[at] for row in rows[header:] if len(row) == 2}) for at in (0, 1))
    if first == second:
        return replace(columns, header=header)
    return replace(columns, header=header, target=int(second < first), input=int(first < second))


class _Folder(NamedTuple):
    """A folder of texts.

    Args:
        split: the split that it is; empty if it may hold several.
        classes: the value of ``dataset.path`` that means that each file is a class; None if the user has typed it.
        settled: the classes of a finished run, as in ``class_folders``.
    """

    dataset: str
    split: str
    root: Path
    classes: dict[str, Path] | None
    settled: Sequence[str]


def _in_folder(folder: _Folder, columns: TextColumns, encoding: str, problems: Problems) -> Iterator[Item]:
    """Yield the texts of a folder: of pairs of files, of files of splits, of files of classes, or of class folders."""
    dataset, split, root, classes, settled = folder
    files = [file for file in _files_in(root) if _is_text(file)]
    documents = [file for file in files if file.suffix.lower() == DOCUMENT]
    folders = folders_in(root)
    tables = {} if split else find_splits((_stem(file), file) for file in files)
    named = {} if split else find_splits(((each.name, each) for each in folders), short=True)
    others = [folder for folder in folders if not any(folder in some for some in named.values())]
    if pairs := find_parallel(documents, split):
        yield from parallel_texts(pairs, documents, encoding, problems)
    elif "train" in tables:
        both = {
            part: some + [each for each in named.get(part, ()) if _has_documents(each)] for part, some in tables.items()
        }
        chosen = _labelled(_one_of_each(root, both, files, problems), columns, encoding, problems)
        yield from _in_files(chosen, columns, encoding, problems)
    elif split and len(files) == 1 and not documents:
        yield from _in_files({split: files[0]}, columns, encoding, problems)
    elif _holds_documents(named.get("train")) and not any(map(_has_documents, others)):
        parts = _one_of_each(root, named, [*folders, *files], problems)
        for part, each in parts.items():
            yield from _in_folder(_Folder(dataset, part, each, parts, settled), columns, encoding, problems)
    elif all(is_about(file.stem) for file in files) and len(folders) == 1 and "train" not in named:
        yield from _in_folder(folder._replace(root=folders[0]), columns, encoding, problems)
    elif documents and not _has_class_folders(root):
        if classes is not None and root not in classes.values():
            problems.warnings.append(f"{root}: each file is taken for a class with a text a line")
        yield from class_files(split, root, documents, classes, encoding, problems)
    elif folders:
        if not split:
            _ask_for_sets(root, folders)
        path = {"train": str(root)} if split else str(root)  # the folder of a split alone is like that of train
        suffixes = [DOCUMENT] if _has_class_folders(root) else []
        for item in _class_folders(dataset, path, suffixes, encoding, problems, settled):
            yield item._replace(split=split or item.split)
    else:
        hint = f"; a table is named itself, such as {words_to_type(files[0])}" if files else ""
        raise ConfigError(f"dataset.path: {root}: has no class folders in it and no {DOCUMENT} files{hint}")


def _is_text(file: Path) -> bool:
    return file.suffix.lower() == DOCUMENT or plain_suffix(file) in TABLES


def _stem(file: Path) -> str:
    """Return the name of a file without its suffix, or without both of ``train.csv.gz``."""
    return file.name[: file.name.lower().rfind(plain_suffix(file))]


def _one_of_each(
    root: Path, named: Mapping[str, list[Path]], paths: Sequence[Path], problems: Problems
) -> dict[str, Path]:
    """Return the file or folder of each split; leave out the other ``paths``.

    Raises:
        ConfigError: two may be the same split.
    """
    chosen = {split: some[0] for split, some in named.items()}
    for split, some in named.items():
        if len(some) > 1:
            word = words_to_type(chosen)
            hint = "; if a name is a split and a class, rename the file, such as train/pos.txt"
            raise ConfigError(
                f"dataset.path: {root}: {listed(some)} may each be {split}; name one of them: {word}"
                + hint * all(path.suffix.lower() == DOCUMENT for path in some)
            )
    if short := said_short(chosen):
        problems.warnings.append(f"{root}: taken for splits: {short}")
    if others := [path for path in paths if path not in chosen.values()]:
        problems.warnings.append(f"{root}: left out, as no split of train, val and test: {listed(others)}")
    return chosen


def _ask_for_sets(root: Path, folders: Sequence[Path]) -> None:
    """Raise ConfigError if folders hold files of splits, such as train.txt, so that they may be data sets."""
    sets = []
    for folder in folders:
        files = [file for file in _files_in(folder) if _is_text(file)]
        names = [split_name(_stem(file)) for file in files] if len(files) <= MAX_FILES_OF_SET else []
        if any(name and name.split == "train" for name in names):
            sets.append(folder)
    if sets:
        one, each = words_to_type(sets[0]), words_to_type({"train": root})
        raise ConfigError(
            f"dataset.path: {root}: {listed(sets)} hold files of splits by their names; for one of them as data type "
            f"{one}; if each folder is a class with a text a file, type {each}"
        )


def _class_folders(
    dataset: str, path: Any, suffixes: Sequence[str], encoding: str, problems: Problems, settled: Sequence[str]
) -> Iterator[Item]:
    """Yield the documents of class folders; any file is one if there are no suffixes, as in the 20 newsgroups."""
    found: Iterable[Item] = class_folders(dataset, path, problems, suffixes, settled)
    for item in keep_suffixes(found, suffixes, "text", problems) if suffixes else found:
        if is_good(text := read_text(item.content, encoding), item.place, encoding, problems):
            yield item._replace(content=text)


def _has_class_folders(folder: Path) -> bool:
    """Return whether folders in a folder hold documents."""
    return any(map(_has_documents, folders_in(folder)))


def _has_documents(folder: Path) -> bool:
    return any(name.lower().endswith(DOCUMENT) for _, _, names in os.walk(folder) for name in names)


def _holds_documents(folders: Sequence[Path] | None) -> bool:
    """Return whether the first of the folders holds texts or tables itself, maybe at the end of a chain of folders."""
    if not folders:
        return False
    if any(_is_text(file) for file in _files_in(folders[0])):
        return not _has_class_folders(folders[0])
    return len(inner := folders_in(folders[0])) == 1 and not _has_class_folders(inner[0]) and _holds_documents(inner)


def _files_in(folder: Path) -> list[Path]:
    files = (file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    return sorted(files, key=lambda file: natural_key(file.name))
