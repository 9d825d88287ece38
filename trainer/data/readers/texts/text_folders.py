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
from trainer.data.readers.texts.text_classes import (
    are_classes,
    class_files,
    classes_of_splits,
    files_of_splits,
    sort_out,
)
from trainer.data.readers.texts.text_files import DOCUMENT, head_of, is_about, is_good, lines_of, read_text
from trainer.data.readers.texts.text_lines import (
    LineForm,
    are_texts,
    form_of,
    labelled_lines,
    may_be_labels,
    shown_labels,
    split_lines,
)
from trainer.data.readers.texts.text_pairs import (
    MAY_BE_LINES,
    find_parallel,
    has_label_name,
    pairs_by_content,
    parallel_texts,
)
from trainer.data.readers.texts.text_tables import (
    TABLES,
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
    known = _columns_of_train(files, columns, encoding, problems)
    lines: list[tuple[str, Path]] = []
    for split, file in files.items():
        if columns.has_table(file) or file.suffix.lower() not in MAY_BE_LINES:
            yield from table_texts(split, file, known, encoding, problems)
        else:
            lines.append((split, file))
    if lines:
        first = files.get("train", lines[0][1])
        form = form_of(first, lines_of(first, encoding), encoding, problems)
        yield from _labelled_files(lines, first, form, columns, encoding, problems)


def _labelled_files(
    files: Sequence[tuple[str, Path]],
    first: Path,
    form: LineForm | None,
    columns: TextColumns,
    encoding: str,
    problems: Problems,
) -> Iterator[Item]:
    """Yield the texts of files, each with its split, that have the form of ``first`` and labels in their lines."""
    if columns.delimiter is None and form is not None and form.kind == "json":
        columns = replace(columns, suffix=".jsonl")
    elif columns.delimiter is None and form is not None and form.kind == "table":
        columns = _columns_of_lines([file for _, file in files], form, columns, encoding, first)
    elif columns.delimiter is None:
        for split, file in files:
            yield from labelled_lines(split, file, lines_of(file, encoding), form, encoding, problems)
        return
    for split, file in files:
        yield from table_texts(split, file, columns, encoding, problems)


def _columns_of_train(
    files: Mapping[str, Path], columns: TextColumns, encoding: str, problems: Problems
) -> TextColumns:
    """Return the columns of the table of train, which those of the other splits must have too."""
    train = files.get("train")
    if len(files) < 2 or train is None or not columns.has_table(train):
        return columns
    layout = columns.layout(train, encoding)
    if not layout.names:
        return columns
    found = find_text_columns(layout, columns)
    problems.notes += found.notes
    inputs, targets = (
        [layout.names[at] if layout.header else at for at in each] for each in (found.inputs, found.targets)
    )
    return replace(columns, input=columns.wanted or inputs, target=columns.targets or targets)


def _labelled(files: Mapping[str, Path], columns: TextColumns, encoding: str, problems: Problems) -> dict[str, Path]:
    """Return the files without the tables of val and test that lack a target of train; a warning names these."""
    of_train = _columns_of_train(files, columns, encoding, problems)
    targets = [name for name in of_train.targets if isinstance(name, str)]
    width = max((at + 1 for at in (*of_train.wanted, *of_train.targets) if isinstance(at, int)), default=0)
    kept = {}
    for split, file in files.items():
        lacking = []
        if split != "train" and (targets or width) and columns.has_table(file):
            layout = columns.layout(file, encoding)
            lacking = [name for name in targets if layout.header and name not in layout.names]
            lacking += [str(width - 1)] if len(layout.names) < width else []
        if lacking:
            problems.warnings.append(f"{file}: left out, as it has no column {lacking[0]}; {split} is cut from train")
        else:
            kept[split] = file
    return kept


def _columns_of_lines(
    files: Sequence[Path], form: LineForm, columns: TextColumns, encoding: str, first: Path
) -> TextColumns:
    """Return the columns of text files with a delimiter: the label is what repeats, as far as can be seen in them."""
    lines = ([line for line in head_of(file, encoding) if line.strip()] for file in dict.fromkeys([first, *files]))
    tables = [split_lines(some, form.delimiter) for some in lines]
    width = len(tables[0][0])
    header = form.header if columns.header == "auto" and (form.header or width == 2) else columns.header
    columns = replace(columns, delimiter=form.delimiter, header=header)
    if header is True or columns.wanted or columns.target is not None:
        return columns
    parts = [[[row[at] for row in rows if len(row) == width] for at in range(width)] for rows in tables]
    cells = [[cell for part in parts for cell in part[at]] for at in range(width)]
    if width == 2:
        first_column, second = (len({*some}) for some in cells)
        target = None if first_column == second else int(second < first_column)
        return columns if target is None else replace(columns, target=target, input=1 - target)
    texts = [at for at in range(width) if are_texts(cells[at])]
    labels = [at for at in range(width) if len({*cells[at]}) > 1 and all(may_be_labels(part[at]) for part in parts)]
    if len(texts) != 1 or len(labels) != 1:
        return columns
    return replace(columns, header=False, target=labels[0], input=texts[0])


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
    dataset, split, root, _, settled = folder
    folders, stored = folders_in(root), _files_in(root)
    files = [file for file in stored if _is_text(file)]
    documents = [file for file in files if file.suffix.lower() == DOCUMENT]
    if not files and not folders:  # texts may have no suffix or another one, such as SMSSpamCollection
        documents = [file for file in stored if file.suffix.lower() in MAY_BE_LINES]
        files = [file for file in documents if split_name(file.suffix) is not None]
    tables = {} if split else find_splits((_stem(file), file) for file in files)
    named = {} if split else find_splits(((each.name, each) for each in folders), short=True)
    others = [folder for folder in folders if not any(folder in some for some in named.values())]
    if pairs := find_parallel(documents, split) or pairs_by_content(stored, split, encoding, problems):
        yield from parallel_texts(pairs, documents, encoding, problems)
    elif not split and (sets := _sets_of_splits(root, documents, columns, encoding, problems)) is not None:
        yield from sets
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
        yield from _in_documents(folder, documents, columns, encoding, problems)
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


def _sets_of_splits(
    root: Path, documents: Sequence[Path], columns: TextColumns, encoding: str, problems: Problems
) -> Iterator[Item] | None:
    """Return the texts of files of which several are of train by their names; None if there are none, or it is unclear.

    Each file is a class of its split, such as ``train_pos.txt``; or all have labels in their lines.
    """
    named = files_of_splits([file for file in documents if not is_about(file.stem)])
    if not named:
        return None
    found = sort_out([each.file for each in named], encoding)
    if found.form is not None and not found.about:
        files = [(each.split, each.file) for each in named]
        first = next(file for split, file in files if split == "train")
        problems.notes.append(f"labels in the lines of {listed(found.files)}")
        return _labelled_files(files, first, found.form, columns, encoding, problems)
    is_plain = columns.delimiter is None and not any(found.forms)
    return classes_of_splits(root, named, encoding, problems) if is_plain and are_classes(named) else None


def _in_documents(
    folder: _Folder, documents: Sequence[Path], columns: TextColumns, encoding: str, problems: Problems
) -> Iterator[Item]:
    """Yield the texts of files that are the classes of a folder or, if all have labels in their lines, one data set."""
    _, split, root, classes, settled = folder
    found = sort_out(documents, encoding)
    if {file.stem for file in documents} & {*settled}:
        yield from class_files(split, root, found, classes, encoding, problems)
        return
    if found.form is not None or columns.delimiter is not None:
        found.warn(root, problems)
        if len(found.files) > 1:
            problems.notes.append(f"labels in the lines of {listed(found.files)}")
        files = [(split, file) for file in found.files]
        yield from _labelled_files(files, found.files[0], found.form, columns, encoding, problems)
        return
    if len(found.files) == 1 and classes is not None:  # which is no class, as there is no other one
        found.warn(root, problems)
        yield from _in_files({split: found.files[0]}, columns, encoding, problems)
        return
    if classes is not None and (labels := found.first_words(encoding)):
        said = f"the first word of each line is taken for its class: {shown_labels(labels)}"
        problems.warnings.append(f"{root}: {listed(found.files)}: {said}")
        found.warn(root, problems)
        for file in found.files:
            yield from labelled_lines(split, file, lines_of(file, encoding), None, encoding, problems)
        return
    if classes is not None and root not in classes.values():
        problems.warnings.append(f"{root}: each file is taken for a class with a text a line")
    yield from class_files(split, root, found, classes, encoding, problems)


def _is_text(file: Path) -> bool:
    return file.suffix.lower() == DOCUMENT or plain_suffix(file) in TABLES


def _stem(file: Path) -> str:
    """Return the name of a file without its suffix, or without both of ``train.csv.gz``; the suffix may be a split."""
    if split_name(file.suffix) is not None:
        return file.name
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
    if any(_is_text(file) or has_label_name(file) for file in _files_in(folders[0])):
        return not _has_class_folders(folders[0])
    return len(inner := folders_in(folders[0])) == 1 and not _has_class_folders(inner[0]) and _holds_documents(inner)


def _files_in(folder: Path) -> list[Path]:
    files = (file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    return sorted(files, key=lambda file: natural_key(file.name))
