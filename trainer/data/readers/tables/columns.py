"""Choose the columns of a table: the target, the features, and the identifiers, from which nothing can be learned."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from trainer.config import ConfigError
from trainer.config.messages import as_word
from trainer.data.readers.tables.identifiers import (
    has_id_name,
    may_be_index,
    names_groups,
    names_rows,
    words_of,
)
from trainer.data.readers.tables.kinds import check_dates, check_texts, kind_notes
from trainer.data.readers.tables.layout import ColumnKey, Layout, listed
from trainer.data.readers.tables.number_cells import NumberForm
from trainer.data.readers.targets import MAX_CLASSES
from trainer.data.table_encoding import ColumnKind

# Names of columns that say what is to be predicted, and of columns that may be it.
TARGET_NAMES = frozenset(
    (
        *("label", "labels", "class", "classes", "target", "targets", "species", "outcome", "diagnosis", "category"),
        *("sentiment", "polarity", "survived"),
    )
)
VAGUE_NAMES = frozenset(("class", "classes", "category"))  # also of features, such as the class of a ticket
TARGET_WORDS = frozenset(("label", "class", "target"))
VALUE_NAMES = frozenset(
    (
        *("price", "prices", "quality", "charges", "income", "salary", "value", "score", "rating", "medv", "mpg"),
        *("sales", "sale", "revenue", "cost", "strength", "churn", "exited", "default", "fraud", "response", "result"),
        "output",
    )
)
GENERIC = re.compile(r"[A-Za-z_ ]{0,9}[0-9]+(?:x[0-9]+)?|Unnamed: [0-9]+")  # names that say nothing: x1, V14, 3x4
FOLD = re.compile(r"[kc]?v?_?-?fold")  # the number of the part that a row belongs to in a cross-validation
MAX_TEXTS = 100  # different texts of a column that can hold classes
MAX_FORMS = 5  # columns of which a note says how their numbers are read


@dataclass(frozen=True)
class ChosenColumns:
    """The columns to read, by their numbers from 0.

    Args:
        targets: what is predicted.
        features: the columns to learn from, in their order.
        kinds: what each column of the table holds.
        maybe_ids: of the features, the columns of whole numbers that may turn out to be identifiers.
        ids: columns that are left out, as they name their row.
        names: the names of all columns of the table, for notes.
        target_note: a phrase that says which target was chosen.
        other_notes: phrases about the other columns.
    """

    targets: list[int]
    features: list[int]
    kinds: Mapping[int, ColumnKind]
    maybe_ids: list[int]
    ids: list[int]
    names: list[str]
    target_note: str
    other_notes: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Short phrases that say what was chosen."""
        what = "an identifier" if len(self.ids) == 1 else "identifiers"
        ids = listed([self.names[column] for column in self.ids])
        left_out = (f"left out {ids} ({what}; dataset.features takes columns in)",) if self.ids else ()
        return (self.target_note, *left_out, *self.other_notes)


def choose_columns(
    layout: Layout,
    target: ColumnKey | list[ColumnKey] | None,
    features: list[ColumnKey] | None,
    ignore: Sequence[ColumnKey],
    others: dict[str, ColumnKey | None],
    kinds: Mapping[int, ColumnKind],
    chosen: Collection[int] = (),
    num_features: int | None = None,
) -> ChosenColumns:
    """Return the columns to read.

    Args:
        layout: the layout of the table that the model learns from.
        target: the key ``dataset.target``; None to find the target.
        features: the key ``dataset.features``; None for all columns that nothing else names, except identifiers.
        ignore: the key ``dataset.ignore``.
        others: the keys that name columns with another role, and their values.
        kinds: what each column holds.
        chosen: the columns whose kinds the key ``dataset.columns`` names; all of them are features.
        num_features: how many features there must be; None if any number will do.

    Raises:
        ConfigError: a column does not exist or has two roles, the target is unclear, the cells of a feature can be read
            in two ways, or no feature is left.
    """
    names = layout.names
    ignored = {at for column in ignore for at in layout.find_all("ignore", column)}
    named = [at for column in features or [] for at in layout.find_all("features", column)]
    roles = {key: layout.find(key, column) for key, column in others.items() if column is not None}
    taken = {*ignored, *named, *roles.values()}
    targets, note = _targets(layout, target, taken)
    if not targets:
        raise ConfigError(f"dataset.target: names no column; columns: {listed(names)}")
    for key, columns in (("ignore", ignored), ("features", {*named}), *((key, {at}) for key, at in roles.items())):
        both = next((column for column in targets if column in columns), None)
        if both is not None:
            raise ConfigError(f"dataset.{key}: {names[both]}: is the target")
    if features is None:
        named = [column for column in range(len(names)) if column not in {*targets, *ignored, *roles.values()}]
    layout.check_lists(named)
    left_out, ids, maybe_ids = _LeftOut(), list[int](), list[int]()
    if features is None and len(named) != num_features:
        in_lists = layout.in_lists()
        single = [column for column in named if column not in in_lists and column not in chosen]
        left_out = _LeftOut.among(layout, single, kinds)
        ids = [column for column in single if names_rows(layout, column) and column not in left_out.groups]
        ids = [column for column in ids if kinds[column] != "text" or has_id_name(layout, column)]
        named = [column for column in named if column not in {*ids, *left_out.all()}]
        single = [column for column in single if column in named]
        maybe_ids = [column for column in single if kinds[column] == "number" and may_be_index(layout, column)]
        maybe_ids = [] if maybe_ids == named and not ids else maybe_ids  # nothing else was there to learn from
    if not named:
        raise ConfigError(f"dataset.features: no column is left to learn from; columns: {listed(layout.names)}")
    check_texts(layout, named, kinds, chosen, ignore)
    check_dates(layout, [*named, *targets], kinds)
    layout.check_decimals([*named, *targets])
    notes = tuple(_notes(layout, targets, named, kinds, left_out))
    shown = [_shown(layout, at) for at in range(len(names))]
    return ChosenColumns(targets, named, kinds, maybe_ids, ids, shown, note, notes)


@dataclass(frozen=True)
class _LeftOut:
    """Columns that are left out although no key says so, besides identifiers."""

    groups: Sequence[int] = ()
    empty: Sequence[int] = ()
    folds: Sequence[int] = ()
    texts: Sequence[int] = ()

    @classmethod
    def among(cls, layout: Layout, columns: Sequence[int], kinds: Mapping[int, ColumnKind]) -> _LeftOut:
        are_folds = (at for at in columns if layout.header and FOLD.fullmatch(layout.names[at].lower()))
        empty = [at for at in columns if _is_empty(layout, at)]
        return cls(
            groups=[at for at in columns if names_groups(layout, at)],
            empty=empty,
            folds=[at for at in are_folds if may_be_classes(layout, at)],
            texts=[at for at in columns if kinds[at] == "text" and at not in empty],
        )

    def all(self) -> set[int]:
        return {*self.groups, *self.empty, *self.folds, *self.texts}


def _notes(
    layout: Layout,
    targets: Sequence[int],
    features: Sequence[int],
    kinds: Mapping[int, ColumnKind],
    left_out: _LeftOut,
) -> Iterator[str]:
    """Yield phrases about lists, kinds, columns that are left out, and numbers in a form of their own."""
    used = {*targets, *features}
    yield from (each.note for each in layout.lists if not used.isdisjoint(each.columns))
    yield from kind_notes(layout, features, kinds)
    yield from (f"left out {_shown(layout, at)} (empty)" for at in left_out.empty)
    yield from (f"left out {layout.names[at]} (folds; dataset.features takes columns in)" for at in left_out.folds)
    for at in left_out.texts:
        word = as_word("dataset.columns", {layout.names[at]: "text"})
        yield f"left out {layout.names[at]} (free text; {word} learns from its words)"
    for at in left_out.groups:
        if any(_say_the_same(layout, at, target) for target in targets):
            yield f"left out {layout.names[at]} (says which target a row has)"
            continue
        word = as_word("dataset.group", layout.names[at])
        yield f"left out {layout.names[at]} (names what several rows are about; {word} keeps these in one split)"
    numbers = [*(at for at in targets if layout.forms[at] != NumberForm("bool"))]
    numbers += [at for at in features if kinds[at] == "number" and layout.forms[at] != NumberForm("bool")]
    forms = [(layout.names[at], layout.forms[at]) for at in numbers]
    yield from [f"{name} is read with {form}" for name, form in forms if form is not None and str(form)][:MAX_FORMS]


def _shown(layout: Layout, column: int) -> str:
    """Return the name of a column for a note."""
    if layout.header and column in layout.unnamed:
        return f"column {layout.places()[column]} without a name"
    return layout.names[column]


def _say_the_same(layout: Layout, one: int, other: int) -> bool:
    """Return whether the cells of two columns determine each other in the first rows."""
    pairs = {*zip(layout.cells(one), layout.cells(other), strict=True)}
    return len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})


def _is_empty(layout: Layout, column: int) -> bool:
    return bool(layout.first) and all(cell.lower() in layout.missing for cell in layout.cells(column))


# ---- the target


def _targets(
    layout: Layout, target: ColumnKey | list[ColumnKey] | None, taken: Collection[int]
) -> tuple[list[int], str]:
    """Return the columns to predict, and a phrase that says which."""
    if target is None:
        targets, how = _find_targets(layout, [column for column in range(len(layout.names)) if column not in taken])
    else:
        wanted, how = target if isinstance(target, list) else [target], ""
        targets = [at for column in wanted for at in layout.find_all("target", column)]
    return targets, f"target {listed([layout.names[column] for column in targets])}" + (f" ({how})" if how else "")


def _find_targets(layout: Layout, columns: Sequence[int]) -> tuple[list[int], str]:
    """Return what to predict, and how it was found: a list whose name says so, or a column that is no part of a list.

    Raises:
        ConfigError: it is unclear.
    """
    in_lists = layout.in_lists()
    several = {
        column for column in layout.uneven if not (layout.header and is_target_name(layout, column))
    }  # no labels
    single = [column for column in columns if column not in in_lists and column not in several]
    lists = [each for each in layout.lists if each.columns.start in columns]
    named = [each for each in lists if layout.header and is_target_name(layout.in_file, each.number)]
    if len(named) == 1 and not any(layout.header and is_target_name(layout, column) for column in single):
        return [*named[0].columns], "found by its name"
    if lists and all(has_id_name(layout, column) or column in layout.unnamed for column in single):
        shown = listed([f"{each.name} ({len(each.columns):,} numbers)" for each in lists])
        raise ConfigError(f"dataset.target: null: which column of {layout.file} is to be predicted? {shown}")
    chosen, how = find_target(layout, single)
    return [chosen], how


def find_target(layout: Layout, columns: Sequence[int]) -> tuple[int, str]:
    """Return the column to predict, and how it was found: by its name, or as the first or last column.

    Without a usual name, the last column is taken if it can hold classes and the first one cannot, or the other way
    round. If the columns have telling names, no other one may hold classes, except numbers beside a single text. A
    table of nothing but measured numbers has its target at the end.

    Args:
        layout: the layout of the table.
        columns: the columns that may be the target.

    Raises:
        ConfigError: it is unclear.
    """
    if not columns:
        raise ConfigError(f"dataset.target: no column is left to predict; columns: {listed(layout.names)}")
    by_name = [column for column in columns if layout.header and is_target_name(layout, column)]
    if len(by_name) == 1:
        is_vague = layout.names[by_name[0]].lower() in VAGUE_NAMES and by_name[0] != columns[-1]
        if is_vague and _is_value_name(layout.names[columns[-1]]):
            raise _question(layout, [*by_name, columns[-1]], columns[-1])
        return by_name[0], "found by its name"
    if by_name:
        raise _question(layout, by_name)
    inner = [column for column in columns if not has_id_name(layout, column) and column not in layout.unnamed]
    first, last = (inner or columns)[0], (inner or columns)[-1]
    classes = [column for column in columns if may_be_classes(layout, column)]
    generic = not layout.header or all(GENERIC.fullmatch(layout.names[column]) for column in columns[1:-1] or columns)
    usual = [column for column in columns if not generic and _is_value_name(layout.names[column])]
    texts = [column for column in classes if layout.holds_text(column)]
    if layout.header and len(texts) == 1 and texts[0] in (first, last):
        classes = texts  # numbers beside a single text are rather features
    is_first = first in classes and last not in classes
    numbered = [column for column in columns if layout.header and re.fullmatch(r"[Yy]_?[0-9]+", layout.names[column])]
    if len(numbered) > 1:
        raise _question(layout, numbered)
    named = [column for column in (first, last) if not GENERIC.fullmatch(layout.names[column])]
    if layout.header and generic and len(named) == 1 and len(columns) > 2:
        return named[0], "found by its name"
    if is_first and layout.header and not generic:
        raise _question(layout, [*classes, first, last])
    if usual:
        if usual == [last] or (usual == [first] and last not in classes):
            return usual[0], "found by its name"
        raise _question(layout, [*usual, *classes, last], usual[-1])
    if first in classes and last in classes and first != last:
        raise _question(layout, [first, last] if generic else [*classes, first, last])
    if is_first and {*classes} != {first}:
        raise _question(layout, [*classes, first, last])
    if generic or not classes or {*classes} <= {first, last}:
        return (first, "the first column") if is_first else (last, "the last column")
    raise _question(layout, [*classes, first, last])


def _question(layout: Layout, columns: Collection[int], likely: int | None = None) -> ConfigError:
    some = sorted({*columns})
    shown = listed([f"{layout.names[column]} ({_example(layout, column) or 'empty'})" for column in some])
    classes = [column for column in some if may_be_classes(layout, column)]
    texts = [column for column in some if layout.holds_text(column)]
    named = [at for at in texts if at in classes] if layout.header or len(texts) == 1 else []
    best = likely if likely is not None else (named or classes or texts or some)[-1]
    example = as_word("dataset.target", layout.names[best])
    flags = [column for column in some if holds_flags(layout, column)]
    if len(flags) > 1 and flags == [*range(flags[0], len(layout.names))]:
        several = as_word("dataset.target", [layout.names[column] for column in flags])
        example += f", or {several} for labels"
    return ConfigError(
        f"dataset.target: null: which column of {layout.file} is to be predicted? {shown}; such as {example}"
    )


def _example(layout: Layout, column: int) -> str:
    """Return the first cell of a column that is not missing, cut to 24 characters; empty if there is none."""
    return next(iter(layout.filled(column)), "")[:24]


def holds_flags(layout: Layout, column: int) -> bool:
    """Return whether the cells of a column are 0 and 1, True and False, or yes and no, as those of labels are."""
    form, cells = layout.forms[column], {*layout.filled(column)}
    return form is not None and bool(cells) and {*form.numbers([*cells])} <= {0.0, 1.0}


def may_be_classes(layout: Layout, column: int) -> bool:
    """Return whether the cells of a column are texts or whole numbers that repeat, as classes do."""
    cells = layout.filled(column)
    different = {*cells}
    if not 2 <= len(different) <= MAX_TEXTS or len(different) * 2 > len(cells):
        return False
    form = layout.forms[column]
    if form is None or form.kind == "bool":
        return True
    numbers = form.numbers([*different])
    return len(different) <= MAX_CLASSES and all(number.is_integer() for number in numbers)


def _is_value_name(name: str) -> bool:
    """Return whether the name of a column ends in a word for a value that may be predicted, such as price."""
    return not VALUE_NAMES.isdisjoint(words_of(name)[-1:])


def is_target_name(layout: Layout, column: int) -> bool:
    """Return whether the name of a column says that it is to be predicted."""
    words = words_of(layout.names[column])
    name = "".join(words)
    if name == "y":  # among x and z it is a coordinate
        lower = {each.lower() for each in layout.names}
        return not ("x" in lower and len(lower) > 2) and "z" not in lower
    return (
        name in TARGET_NAMES
        or words[-1:] == ["target"]
        or (words[-1:] == ["label"] and len(words) <= 2)
        or (len(words) == 2 and words[0] in TARGET_WORDS and words[1] in ("name", "index", "label", "id", "number"))
    )
