"""Labels and groups in the names of files: read them by a pattern, and propose patterns for names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import NamedTuple

from trainer.config import ConfigError

FIELDS = ("label", "group")
PARTS = re.compile(r"\{label\}|\{group\}|\*|#")  # the parts of a pattern that are not literal text
NUMBER = "(?<![0-9])[0-9]+(?![0-9])"  # with all its digits
SEPARATORS = "_-. "  # what may stand between the parts of a name
MAX_PROPOSED = 3  # patterns that a message proposes
MAX_READ = 2000  # names that a proposed pattern has to fit
SYNTAX = "a pattern has {label} or {group}, * for any text, # for a number and / behind a folder"


class Fields(NamedTuple):
    """What a pattern reads in the name of a file; a field that the pattern lacks is empty."""

    label: str
    group: str


class _AmbiguousError(Exception):
    """Both readings of a pattern make sense. The arguments are a name and its two readings."""


class NamePattern:
    """A pattern for names of files, such as ``{label}_{group}_*``: ``*`` is any text and ``#`` a number.

    A pattern with ``/``, such as ``{group}/{label}_*``, is one for the names of the folders around a file too.

    Args:
        key: the key that the pattern comes from, for messages; a pattern of ``group`` needs a group, others a label.
        text: the pattern.

    Raises:
        ConfigError: the pattern lacks the field, has a field twice, or has other words in braces.
    """

    def __init__(self, key: str, text: str) -> None:
        self.key, self.text = key, text
        self.fields = [name for name in FIELDS if f"{{{name}}}" in text]
        needed = "group" if key == "group" else "label"
        if needed not in self.fields or any(text.count(f"{{{name}}}") > 1 for name in FIELDS):
            raise ConfigError(f"dataset.{key}: {text}: must have {{{needed}}}, and each field once; {SYNTAX}")
        unknown = re.search(r"\{.*?\}|[{}]", PARTS.sub("", text))
        if unknown:
            raise ConfigError(f"dataset.{key}: {text}: {unknown[0]} means nothing in the name of a file; {SYNTAX}")
        self._shortest, self._longest = (_compiled(text, lazy=lazy) for lazy in (True, False))

    def name_of(self, file: PurePath) -> str:
        """Return the part of a path that the pattern is for: the name, and as many folders above as it has ``/``."""
        return "/".join(file.parts[-1 - self.text.count("/") :])

    def read(self, names: Sequence[str], classes: Sequence[str] = ()) -> list[Fields | None]:
        """Return the fields in each name; None for a name that the pattern does not fit.

        A name may fit in two ways: ``a_b_1.png`` has the label a or a_b by ``{label}_*``. The reading that makes sense
        for all names is taken: with labels that occur again and again.

        Args:
            names: the names of the files, as ``name_of`` returns them.
            classes: the classes of a finished run, which decide; empty if there are none.

        Raises:
            ConfigError: both readings make sense.
        """
        try:
            return self._read(names, classes)
        except _AmbiguousError as error:
            name, *readings = error.args
            better = [] if self.key == "group" else _as_words(proposed_patterns(names))
            raise ConfigError(
                f"dataset.{self.key}: {self.text}: {name} fits in two ways, with {' or '.join(readings)}; "
                + (f"say which: {' or '.join(better)}" if better else f"write out more of the name: {SYNTAX}")
            ) from error

    def _read(self, names: Sequence[str], classes: Sequence[str] = ()) -> list[Fields | None]:
        short, long = ([_fields(expression, name) for name in names] for expression in (self._shortest, self._longest))
        differing = [at for at, pair in enumerate(zip(short, long, strict=True)) if pair[0] != pair[1]]
        if not differing:
            return short
        if classes and "label" in self.fields:
            known = [sum(each is not None and each.label in classes for each in some) for some in (short, long)]
            return long if known[1] > known[0] else short
        if not self._repeats(names, long):
            return short
        if not self._repeats(names, short):
            return long
        both = [some[differing[0]] for some in (short, long)]
        raise _AmbiguousError(names[differing[0]], *(self._shown(each) for each in both))

    def _repeats(self, names: Sequence[str], some: Sequence[Fields | None]) -> bool:
        """Return whether the values of each field occur at least twice on average, in names that differ."""
        found = [each for each in dict(zip(names, some, strict=True)).values() if each is not None]
        return all(len({getattr(each, name) for each in found}) * 2 <= len(found) for name in self.fields)

    def _shown(self, fields: Fields | None) -> str:
        return ", ".join(f"{name} {getattr(fields, name)}" for name in self.fields)


def _compiled(text: str, *, lazy: bool) -> re.Pattern[str]:
    """Return a pattern as a regular expression, in which each part takes as few or as many letters as possible."""
    some = "?" if lazy else ""
    meaning = {"*": f"[^/]*{some}", "#": NUMBER} | {f"{{{name}}}": f"(?P<{name}>[^/]+{some})" for name in FIELDS}
    literal = map(re.escape, PARTS.split(text))
    parts = [*(meaning[part] for part in PARTS.findall(text)), ""]
    return re.compile("".join(word + part for word, part in zip(literal, parts, strict=True)))


def _fields(expression: re.Pattern[str], name: str) -> Fields | None:
    found = expression.fullmatch(name)
    return None if found is None else Fields(**{key: found.groupdict().get(key, "") for key in FIELDS})


def proposed_patterns(names: Sequence[str]) -> dict[str, list[str]]:
    """Return patterns that may read the labels in names of files, and the labels of each, the likeliest first.

    A pattern is proposed if it fits all names and finds at least two labels, each of them in at least two names.
    """
    found: dict[str, list[str]] = {}
    some = names[:: -(-len(names) // MAX_READ)]
    for text in _possible_patterns(some):
        try:
            fields = NamePattern("pattern", text)._read(some)
        except _AmbiguousError:
            continue
        labels = Counter(each.label for each in fields if each is not None)
        if labels.total() == len(some) and len(labels) > 1 and min(labels.values()) > 1:
            found[text] = sorted(labels)
    likely = sorted(found, key=lambda text: all(label.isdecimal() for label in found[text]))  # words before numbers
    different = {tuple(found[text]): text for text in reversed(likely)}.values()
    return {text: found[text] for text in [text for text in likely if text in different][:MAX_PROPOSED]}


def pattern_across(files: Sequence[tuple[str, str]]) -> str:
    """Return a pattern whose labels occur in every class folder, so that the folders may be groups; empty if none does.

    Names that hold the name of their folder say that the folder is the class.

    Args:
        files: the class and the name of each file.
    """
    some = files[:: max(1, -(-len(files) // MAX_READ))]
    folders = {folder for folder, _ in some}
    if len(folders) < 3 or all(folder.lower() in name.lower() for folder, name in some):
        return ""
    for text, labels in proposed_patterns([name for _, name in some]).items():
        fields = NamePattern("pattern", text)._read([name for _, name in some])
        pairs = {(folder, field.label) for (folder, _), field in zip(some, fields, strict=True) if field is not None}
        words = {re.sub(r"[\W\d_]+", "", label).lower() for label in labels}  # and not a camera, or a number
        if len(pairs) == len(folders) * len(labels) and len(words) == len(labels) and min(map(len, words)) > 1:
            return f"{{group}}/{text}"
    return ""


def _possible_patterns(names: Sequence[str]) -> Iterator[str]:
    """Yield patterns: the text before a number at the end, and each of equally many parts between separators."""
    stems = [PurePath(name).stem for name in names]
    for separator in (*SEPARATORS, ""):
        if all(re.search(rf"[^0-9]{re.escape(separator)}[0-9]+$", stem) for stem in stems):
            yield f"{{label}}{separator}#.*"
            break
    for separator in SEPARATORS:
        counts = {stem.count(separator) for stem in stems}
        if len(counts) == 1 and (count := counts.pop()):
            for at in range(count + 1):
                yield separator.join([*["*"] * at, "{label}", *["*"] * (count - at)]) + ".*"


def _as_words(patterns: dict[str, list[str]]) -> list[str]:
    """Return patterns as words of a command, with some of their labels."""
    words = []
    for text, labels in patterns.items():
        more = f", … ({len(labels)} labels)" if len(labels) > 3 else ""
        words.append(f"'dataset.pattern=\"{text}\"' ({', '.join(labels[:3])}{more})")
    return words


def ask_for_labels(
    folder: object, names: Sequence[str], noun: str, tables: Sequence[str], hint: str = ""
) -> ConfigError:
    """Return the error about a folder of files without class folders, which says where their labels may come from.

    Args:
        folder: the folder.
        names: the names of the files.
        noun: what a file holds.
        tables: the words of a command that read tables near the folder.
        hint: what else to do.
    """
    table = " or ".join(tables) or "dataset.labels=TABLE.csv"
    words = _as_words(proposed_patterns(names)) or [f"dataset.pattern ({SYNTAX})"]
    return ConfigError(
        f"dataset.path: {folder}: has {noun}s but no class folders, such as {names[0]}; say where the labels are: in a "
        f"table, {table}, or in the names, {' or '.join(words)}{hint}"
    )
