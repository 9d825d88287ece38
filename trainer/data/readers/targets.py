"""Find out what a data set predicts: classes, labels or values, from the cells of its target columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.config import ConfigError
from trainer.config.messages import as_word, did_you_mean
from trainer.data.data import ReadOptions
from trainer.data.readers.candidates import Candidates
from trainer.data.readers.files import natural_key, need_classes
from trainer.data.readers.label_cells import WORDS, ask_about_commas, ask_for_separator, lists_in, parts_of
from trainer.data.readers.tables.number_cells import MISSING, NO, PLAIN_FORM, YES, NumberForm, to_float
from trainer.spec import Task

MAX_CLASSES = 20  # targets with at most this many different whole numbers are classes
LEADING_ZERO = re.compile(r"[+-]?0[0-9]")  # of a code such as 01, which is another one than 1


class TargetKeys(TypedDict):
    """The keys that say what is predicted."""

    task: Literal["auto"] | Task
    normalise_targets: bool
    label_separator: str | None


class Targets(NamedTuple):
    """The targets of all samples.

    Args:
        task: classification, multilabel or regression.
        names: the names of the classes, labels or values.
        values: (samples,) int64 classes, (samples, outputs) float32 labels, or (samples, outputs) float64 values.
    """

    task: Task
    names: tuple[str, ...]
    values: Tensor


class TargetCells(NamedTuple):
    """The cells of the target columns of all samples, good and bad.

    Args:
        names: the names of the columns.
        texts: the different texts of each column.
        codes: (columns, samples) int64, the index in ``texts`` of each cell; -1 for a missing cell.
        forms: how each column writes numbers; None for a column of texts; empty if no column has a form of its own.
    """

    names: Sequence[str]
    texts: Sequence[Sequence[str]]
    codes: NDArray[np.int64]
    forms: Sequence[NumberForm | None] = ()

    @classmethod
    def of(cls, names: Sequence[str], cells: Sequence[Sequence[str]]) -> TargetCells:
        """Return the cells of columns, given one text for each column and sample; a blank text is a missing cell."""
        texts, codes = list[list[str]](), []
        for column in cells:
            known: dict[str, int] = {}
            found = [known.setdefault(cell.strip(), len(known)) if cell.strip() else -1 for cell in column]
            codes.append(np.array(found, dtype=np.int64))
            texts.append(list(known))
        return cls(names, texts, np.stack(codes))

    def values(self) -> NDArray[np.float64]:
        """Return the numbers of the cells, (columns, samples); NaN for a cell that is missing or holds no number."""
        forms = self.forms or [PLAIN_FORM] * len(self.names)
        tables = [
            np.array([*(form or PLAIN_FORM).numbers(some), np.nan])  # the last one is for the code -1
            for form, some in zip(forms, self.texts, strict=True)
        ]
        values = np.stack([table[some] for table, some in zip(tables, self.codes, strict=True)])
        return np.where(np.abs(values) <= np.finfo(np.float32).max, values, np.nan)

    def text(self, column: int, sample: int) -> str:
        """Return the text of a cell; empty for a missing cell."""
        code = int(self.codes[column, sample])
        return self.texts[column][code] if code >= 0 else ""


def find_targets(cells: TargetCells, samples: Candidates, keys: TargetKeys, options: ReadOptions) -> Targets:
    """Find the task, and return the targets of the good samples; samples with bad targets become problems.

    Text or up to ``MAX_CLASSES`` whole numbers are classes. Several columns of 0 and 1, or one column of names between
    which ``label_separator`` stands, are labels. Other numbers are values. A finished run keeps its task and classes.

    Args:
        cells: the target columns of all samples.
        samples: all samples; those with bad targets are dropped, and all problems are settled.
        keys: the keys that say what is predicted.
        options: the preprocessing of a finished run.

    Raises:
        ConfigError: the columns do not fit the task, or can be read in two ways; or as ``Candidates.settle``.
    """
    run = options.preprocessing
    task: Literal["auto"] | Task = keys["task"] if run is None else run["task"]
    may_be_labels = task in ("auto", "multilabel")
    lists = lists_in(cells.texts[0]) if len(cells.names) == 1 else None
    if may_be_labels and (keys["label_separator"] is not None or lists is not None):
        parts = _split_cells(cells, keys["label_separator"] or "", options) if lists is None else lists
        return _labels_in_cells(cells, parts, samples, options)
    if lists is not None:
        cells = cells._replace(texts=[["|".join(some) for some in lists]])
    if may_be_labels:
        cells = _without_minus(cells, samples)
    values = np.where(samples.good, cells.values(), np.nan)
    there = (cells.codes >= 0) & samples.good
    mostly = np.isfinite(values).sum(1) * 2 > there.sum(1)
    task = _find_task(task, cells, values, mostly)
    if task == "classification":
        return _classes(cells, values, samples, options)
    reason = "is neither 0 nor 1" if task == "multilabel" else "is no number"
    fits = np.isin(values, (0, 1)) if task == "multilabel" else np.isfinite(values)
    samples.drop(np.logical_not(fits.all(0)), _reason(cells, fits, reason))
    samples.settle()
    exact = np.float64 if task == "regression" else np.float32  # values stay exact until their mean is taken off
    good = np.ascontiguousarray(values[:, samples.good].T, dtype=exact)
    return Targets(task, tuple(cells.names), torch.from_numpy(good))


def _without_minus(cells: TargetCells, samples: Candidates) -> TargetCells:
    """Return several columns of -1 and 1 alone, such as those of CelebA, as 0 and 1; other columns as they are."""
    if len(cells.names) < 2 or {to_float(text) for some in cells.texts for text in some} != {-1.0, 1.0}:
        return cells
    samples.problems.notes.append("labels of -1 and 1 are read as 0 and 1")
    texts = [["0" if to_float(text) == -1 else "1" for text in some] for some in cells.texts]
    return cells._replace(texts=texts)


def _find_task(
    task: Literal["auto"] | Task, cells: TargetCells, values: NDArray[np.float64], mostly: NDArray[np.bool_]
) -> Task:
    """Return the task that the key names or, if it is auto, the task that fits the columns.

    Args:
        task: the key ``dataset.task``.
        cells: the target columns.
        values: the numbers of the cells, as ``TargetCells.values`` returns them.
        mostly: (columns,) whether most cells of a column are numbers.

    Raises:
        ConfigError: the columns do not fit the task, or a single column may hold several labels.
    """
    seen = np.unique(values[np.isfinite(values)])
    are_few = len(seen) <= MAX_CLASSES and bool((seen == np.floor(seen)).all())
    if len(cells.names) == 1 and task in ("auto", "multilabel") and bool(np.isnan(values[cells.codes >= 0]).any()):
        are_numbers, sure = bool(mostly.all()), task == "multilabel"
        ask_for_separator(cells.names[0], cells.texts[0], are_numbers=are_numbers, sure=sure)
    form = cells.forms[0] if cells.forms else None
    if len(cells.names) == 1 and task == "auto" and form is not None and form.decimal == ",":
        ask_about_commas(cells.names[0], cells.texts[0])
    if len(cells.names) == 1 and task == "auto" and not are_few and _may_be_codes(cells.names[0], seen, values):
        raise ConfigError(
            f"dataset.task: auto: are the {len(seen):,} whole numbers of {cells.names[0]}, {seen[0]:.0f} to "
            f"{seen[-1]:.0f}, classes or values? dataset.task=classification or dataset.task=regression says so"
        )
    return find_task(
        task,
        cells.names,
        are_classes=are_few or not mostly.all(),
        are_labels=bool(mostly.all() and np.isin(seen, (0, 1)).all()),
        texts="" if mostly.all() else cells.names[int(np.flatnonzero(~mostly)[0])],
    )


def _may_be_codes(name: str, seen: NDArray[np.float64], values: NDArray[np.float64]) -> bool:
    """Return whether whole numbers repeat, and run from 0 or 1 with few gaps or have a name such as label."""
    whole = len(seen) > 0 and bool((seen == np.floor(seen)).all())
    is_named = re.search(r"label|class|code|category|species|type", name.lower()) is not None
    runs = bool(whole and seen[0] in (0, 1) and seen[-1] < 1.5 * len(seen))
    return whole and (runs or is_named) and bool(5 * len(seen) <= np.isfinite(values).sum())


def find_task(
    task: Literal["auto"] | Task, columns: Sequence[str], *, are_classes: bool, are_labels: bool, texts: str
) -> Task:
    """Return the task that ``dataset.task`` names or, if it is auto, the task that fits the target columns.

    Args:
        task: the key ``dataset.task``.
        columns: the names of the target columns.
        are_classes: whether a single target column holds classes.
        are_labels: whether several target columns hold only 0 and 1.
        texts: the names of target columns that hold texts, for messages; empty if all hold numbers.

    Raises:
        ConfigError: the columns do not fit the task.
    """
    if task == "auto" and len(columns) > 1:
        task = "multilabel" if are_labels else "regression"
    elif task == "auto":
        task = "classification" if are_classes else "regression"
    if task == "classification" and len(columns) > 1:
        raise ConfigError(f"dataset.target: must be one column for task=classification, got {', '.join(columns)}")
    if task != "classification" and texts:
        raise ConfigError(f"dataset.target: {texts}: holds text, not numbers, which task={task} needs")
    return task


def _reason(cells: TargetCells, fits: NDArray[np.bool_], what: str) -> Callable[[int], str]:
    """Return a function that says which cell of a sample does not fit, and why."""

    def reason(sample: int) -> str:
        column = int(np.flatnonzero(~fits[:, sample])[0])
        text = cells.text(column, sample)
        return f"{cells.names[column]}: {f'{text} {what}' if text else 'is empty'}"

    return reason


# ---- classes


def _classes(cells: TargetCells, values: NDArray[np.float64], samples: Candidates, options: ReadOptions) -> Targets:
    """Return the class of each good sample; a sample of a class that train lacks is a problem."""
    texts, codes = cells.texts[0], cells.codes[0]
    used = np.unique(codes[(codes >= 0) & samples.good]).tolist()
    all_numbers = all(np.isfinite(to_float(texts[code])) or texts[code].lower() in MISSING for code in used)
    fits = np.isfinite(values) if all_numbers else cells.codes >= 0  # NA can be the name of a class
    samples.drop(~fits[0], _reason(cells, fits, "is no class"))
    names = class_names(texts, [code for code in used if not all_numbers or np.isfinite(to_float(texts[code]))])
    for name in names.values():
        if name.lower() in MISSING and not options.classes:
            word = as_word("dataset.missing_values", [name])
            samples.problems.warnings.append(
                f"{name} is a class of {cells.names[0]}; if it means a missing one, {word}"
            )
    return classes_of(names, codes, samples, options)


def class_names(texts: Sequence[str], used: Sequence[int]) -> dict[int, str]:
    """Return the name of the class of each text, in the order of the classes.

    If all texts are numbers, classes are ordered by value, and 1 and 1.0 are one class; but if one of them begins with
    a zero, as the code 01 does, all stay as they are written. Otherwise they are in natural order.

    Args:
        texts: the different texts of a column.
        used: the numbers of the texts that name classes.
    """
    if {texts[code].lower() for code in used} <= {*YES, *NO}:  # True and true are one class
        firsts: dict[str, str] = {}
        named = {code: firsts.setdefault(texts[code].lower(), texts[code]) for code in used}
        return dict(sorted(named.items(), key=lambda pair: natural_key(pair[1])))
    values = {code: to_float(texts[code]) for code in used}
    is_code = any(LEADING_ZERO.match(texts[code]) for code in used)
    if not is_code and np.isfinite(list(values.values())).all():
        return {code: _shown(texts[code], values[code]) for code in sorted(used, key=values.__getitem__)}
    return {code: texts[code] for code in sorted(used, key=lambda code: natural_key(texts[code]))}


def classes_of(
    names: Mapping[int, str],
    codes: NDArray[np.int64],
    samples: Candidates,
    options: ReadOptions,
    place_of: Callable[[int], str] | None = None,
) -> Targets:
    """Return the class of each good sample as targets; samples of a class that train lacks become problems.

    Args:
        names: the name of each class by its code, in the order of the classes, as ``class_names`` returns them.
        codes: (samples,) int64, the code of each sample's class.
        samples: all samples; all problems are settled.
        options: a finished run keeps its own classes.
        place_of: returns the place of a sample's target, if this is not the usual place of a sample.

    Raises:
        ConfigError: train has less than two classes, or there are bad samples and ``on_error`` is stop.
    """
    problems = samples.problems
    samples.settle()
    codes = np.where(samples.good, codes, -1)
    trained = {names[code] for code in np.unique(codes[samples.in_train]).tolist()}
    classes = options.classes or tuple(name for name in dict.fromkeys(names.values()) if name in trained)
    need_classes(problems.dataset, classes)
    number = {name: number for number, name in enumerate(classes)}
    strange_names = {name for name in names.values() if name not in number}
    if dotted := {name for name in strange_names if name.removesuffix(".") in number}:  # as in the test of Adult
        problems.notes.append(f"the dot at the end of {', '.join(sorted(dotted))} is left out")
        number |= {name: number[name.removesuffix(".")] for name in dotted}
    table = np.full(max(names, default=-1) + 2, -1)  # the last entry is for samples without a text, whose code is -1
    for code, name in names.items():
        table[code] = number.get(name, number.get(plain_name(name), -1) if options.classes else -1)
    found = table[codes]
    strange = (found < 0) & (codes >= 0)
    for split in np.unique(samples.splits[strange]).tolist():
        for code in np.unique(codes[strange & (samples.splits == split)]).tolist():
            same = np.flatnonzero(strange & (samples.splits == split) & (codes == code))
            count = "1 sample" if len(same) == 1 else f"{len(same)} samples"
            where = f"in {split}" if split else "here"
            near = did_you_mean(names[code], classes).rstrip("?").replace("did you mean", "train has")
            reason = f"class {names[code]} is {where} ({count}) but not in train{near}"
            problems.add((place_of or samples.place_of)(int(same[0])), reason)
    problems.settle()
    samples.good &= found >= 0
    return Targets("classification", classes, torch.from_numpy(found[samples.good]))


def plain_name(name: str) -> str:
    """Return the name that a class has if all classes of a run are numbers: 1.0 becomes 1."""
    value = to_float(name)
    return _shown(name, value) if np.isfinite(value) else name


def _shown(text: str, value: float) -> str:
    """Return a number as the name of a class; a whole number keeps all its digits."""
    try:
        return str(int(text))
    except ValueError:
        return f"{value:.15g}"


# ---- several labels in one cell


def _split_cells(cells: TargetCells, separator: str, options: ReadOptions) -> list[list[str]]:
    """Return the labels in each text of the target column.

    Raises:
        ConfigError: there are several target columns, or no text has the separator in it.
    """
    if len(cells.names) > 1:
        listed = ", ".join(cells.names)
        raise ConfigError(f"dataset.label_separator: {separator}: needs one target column, got {listed}")
    texts, separator = cells.texts[0], WORDS.get(separator, separator)
    if texts and not options.classes and not any(separator in text for text in texts):
        shown = ", ".join(texts[:3])
        raise ConfigError(f"dataset.label_separator: {separator}: is in no cell of {cells.names[0]}, such as {shown}")
    return [parts_of(text, separator) for text in texts]


def _labels_in_cells(
    cells: TargetCells, labels: Sequence[Sequence[str]], samples: Candidates, options: ReadOptions
) -> Targets:
    """Return the labels of the good samples; an empty cell is a sample without a label.

    Args:
        cells: the target column.
        labels: the labels in each of its different texts.
        samples: all samples; all problems are settled.
        options: a finished run keeps its own labels.

    Raises:
        ConfigError: train has no label, or a list has one twice.
    """
    twice = next((text for text, some in zip(cells.texts[0], labels, strict=True) if len({*some}) < len(some)), None)
    if twice is not None and twice.startswith("["):
        raise ConfigError(
            f"dataset.target: {cells.names[0]}: {twice[:40]}: is no list of labels, as it has one twice; "
            "0 and 1 for each label are columns of their own"
        )
    codes, parts = cells.codes[0], {**dict(enumerate(labels)), -1: []}
    if options.classes:
        names = options.classes
    else:
        trained = {label for code in np.unique(codes[samples.in_train]).tolist() for label in parts[code]}
        names = tuple(sorted(trained, key=natural_key))
    if not names:
        raise ConfigError(f"dataset.target: {cells.names[0]}: no sample of train has a label")
    number = {name: at for at, name in enumerate(names)}
    strange = {code: [name for name in some if name not in number] for code, some in parts.items()}
    bad = np.isin(codes, [code for code, some in strange.items() if some])
    samples.drop(bad, lambda sample: f"label {strange[int(codes[sample])][0]} is not in train")
    samples.settle()
    table = np.zeros((len(labels) + 1, len(names)), dtype=np.float32)  # the last row is for the code -1
    for code, some in parts.items():
        table[code, [number[name] for name in some if name in number]] = 1
    return Targets("multilabel", names, torch.from_numpy(table[codes[samples.good]]))
