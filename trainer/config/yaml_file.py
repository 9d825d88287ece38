"""Read YAML files with the line and the comment of every key, and refuse content that a config must not have.

A config is data. A file must not name code (``_target_``), read environment variables other than the documented ones,
or grow without bound through anchors. Every refusal names the file and line.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trainer.config.errors import ConfigError
from trainer.config.untrusted_files import check_file, read_stored

MAX_BYTES = 1_000_000  # largest size of a file
MAX_NODES = 10_000  # largest number of keys and values in a file after its aliases are expanded
MAX_DIGITS = 300  # longest number; no float64 has more digits before its point

# The exceptions that PyYAML raises for values: ValueError for a date such as 2026-13-01, IndexError for an empty !!int.
FAULTS = (yaml.YAMLError, ValueError, IndexError, TypeError, KeyError, AttributeError, RecursionError)

NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
# The resolvers that ${name:…} may call, and the environment variables that ${oc.env:NAME} may read.
RESOLVERS = {"now", "oc.env"}
VARIABLES = re.compile(r"HOME|USER|TMPDIR|SCRATCH|(SLURM|TRAINER)_\w+")
MAX_COMMENT = 1000  # characters of a comment that are kept
MAX_SLOW = 100_000  # largest size of a file that libyaml does not read: Python takes 25 µs a byte
SURROGATE = re.compile(r"\\u[dD][cC]")  # in the escape of a lone surrogate, which libyaml refuses
_RESOLVER = re.compile(r"\$\{\s*([^${}:]*?)\s*:\s*([^${},]*)")
_NESTED = re.compile(r"\$\{[^}]*\$\{")


@functools.cache
def config_dir() -> Path:
    """Return the folder ``configs``: inside the installed package, or next to the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def shown(path: Path) -> str:
    """Return a path for messages, relative to ``configs`` or to the working directory if it is in one of them."""
    with contextlib.suppress(ValueError):
        return f"configs/{path.resolve().relative_to(config_dir())}"
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


@dataclass
class YamlFile:
    """The line numbers and comments of a YAML file.

    Args:
        lines: dotted key -> line number, counted from 1.
        comments: dotted key -> the comment on its line.
        header: the comment block above the first key.
        refused: one message for each key or value that a config must not have.
    """

    lines: dict[str, int] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    header: str = ""
    refused: list[str] = field(default_factory=list)


def read(path: Path) -> YamlFile:
    """Read the line numbers and comments of a file; the result is cached until the file changes.

    Raises:
        ConfigError: the file cannot be read or is not valid YAML; the message names the line.
    """
    try:
        return _read(path, check_file(path).st_mtime_ns)
    except OSError as error:
        raise ConfigError(f"{shown(path)}: cannot be read: {error.strerror}") from error


def load(path: Path) -> Any:
    """Return the content of a YAML file that a run or sweep has stored, as plain containers.

    Raises:
        ConfigError: the file cannot be read or is not valid YAML; the message names the line.
    """
    try:
        root = _root(_text(path), path)
        if root is None:
            return None
        _check_keys(root, path)
        return yaml.constructor.SafeConstructor().construct_document(root)
    except OSError as error:
        raise ConfigError(f"{shown(path)}: cannot be read: {error.strerror}") from error
    except FAULTS as error:
        raise ConfigError(f"{shown(path)}: invalid YAML: {' '.join(str(error).split())}") from error


def refusals(text: str) -> list[str]:
    """Return one message for each forbidden interpolation in a text."""
    if "${" not in text:
        return []
    if _NESTED.search(text):
        return ["an interpolation inside an interpolation is not allowed"]
    found = []
    for name, argument in _RESOLVER.findall(text):
        if name not in RESOLVERS:
            found.append(f"${{{name}:…}} is not allowed; allowed: {', '.join(sorted(RESOLVERS))}")
        elif name == "now" and not argument:
            found.append("${now:} needs a format, such as ${now:%Y-%m-%d}")
        elif name == "oc.env" and not VARIABLES.fullmatch(argument.strip()):
            allowed = "HOME, USER, TMPDIR, SCRATCH, SLURM_… and TRAINER_…"
            found.append(f"${{oc.env:{argument.strip()}}} is not allowed; a config may read only {allowed}")
    return found


@functools.lru_cache(maxsize=512)
def _read(path: Path, changed: int) -> YamlFile:
    text = _text(path)
    root, lines = _root(text, path), text.splitlines()
    found = YamlFile(header=_header(lines))
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{shown(path)}, line {root.start_mark.line + 1}: must be a mapping of keys to values")
    if root is not None:
        _walk(root, "", lines, path, found)
    return found


def _text(path: Path) -> str:
    try:
        return read_stored(path, MAX_BYTES)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown(path)}: not UTF-8: {error.reason} at byte {error.start}") from error


def _root(text: str, path: Path) -> yaml.Node | None:
    """Parse a YAML text, check its size, and return the root node; None if the text is empty."""
    lines = text.splitlines()
    try:
        root = _composed(text)
        _check_size(root, path)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{shown(path)}{_fault(error, lines)}") from error
    return root


def _composed(text: str) -> yaml.Node | None:
    """Return the root node of a text; libyaml, which is 30 times as fast, refuses the escape of a lone surrogate."""
    root: yaml.Node | None
    try:
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        if len(text) > MAX_SLOW or not SURROGATE.search(text):
            raise
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    return root


def _fault(error: yaml.YAMLError | RecursionError, lines: list[str]) -> str:
    """Return the error message for a text that is not valid YAML, without the file name at its start."""
    problem = getattr(error, "problem", None) or ""
    if isinstance(error, RecursionError) or "nesting depth" in problem:  # only newer versions of PyYAML limit the depth
        return ": nested too deeply"
    if not isinstance(error, yaml.MarkedYAMLError):
        return f": invalid YAML: {' '.join(str(error).split())}"
    mark = error.problem_mark or error.context_mark
    row = mark.line if mark is not None else 0
    tab = row < len(lines) and lines[row][: len(lines[row]) - len(lines[row].lstrip())].count("\t")
    return f", line {row + 1}: invalid YAML: {'a tab; YAML indents with spaces' if tab else error.problem}"


def _check_size(root: yaml.Node | None, path: Path) -> None:
    """Raise ConfigError if the aliases expand to too many values, a node contains itself, or a number is too long."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            if len(node.value) > MAX_DIGITS and node.tag in NUMBERS:  # int("1:1:1:…") takes minutes
                raise ConfigError(f"{_place(node, path)}: a number of {len(node.value):,} characters")
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = MAX_NODES + 1  # the recursion meets this size if the node contains itself
            sizes[id(node)] = 1 + sum(map(size, _children(node)))
            if sizes[id(node)] > MAX_NODES:
                line = node.start_mark.line + 1
                many = f"more than {MAX_NODES:,} keys and values, with those that its anchors repeat"
                raise ConfigError(f"{shown(path)}, line {line}: {many}")
        return sizes[id(node)]

    if root is not None:
        size(root)


def _check_keys(root: yaml.Node, path: Path) -> None:
    """Raise ConfigError if a mapping has a key twice: the last of them would be taken without a word."""
    left, seen = [root], set[int]()
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        left += _children(node)
        keys = set[str]()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value in keys and key.value != "<<":
                raise ConfigError(f"{_place(key, path)}: duplicate key {key.value}")
            keys.add(str(key.value))


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _walk(node: yaml.Node, parent: str, lines: list[str], path: Path, found: YamlFile) -> None:
    """Record in ``found`` the line and the comment of every key below a node, and every refusal.

    Raises:
        ConfigError: a key is not a string or occurs twice, or a tag is not one of YAML's own and may name code.
    """
    if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
        tag = node.tag.replace("tag:yaml.org,2002:", "!!")
        raise ConfigError(f"{_place(node, path)}: {tag} names code, and a config is data")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            full = _add_key(key, parent, path, found)
            if comment := _comment(value, lines):
                found.comments[full] = comment
            _walk(value, full, lines, path, found)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _walk(item, f"{parent}.{number}", lines, path, found)
    elif isinstance(node, yaml.ScalarNode):
        reasons = refusals(str(node.value))
        if parent.startswith("defaults.") and "${" in str(node.value):
            reasons = ["an interpolation in a defaults list is not allowed"]
        found.refused += [f"{parent}: {reason} ({_place(node, path)})" for reason in reasons]


def _add_key(key: yaml.Node, parent: str, path: Path, found: YamlFile) -> str:
    """Record in ``found`` the line of a key, and a refusal if the key names code; return the dotted key."""
    if not isinstance(key, yaml.ScalarNode) or key.tag.rpartition(":")[2] not in ("str", "merge"):
        raise ConfigError(f"{_place(key, path)}: invalid YAML: a key must be a string")
    name = str(key.value)
    full = f"{parent}.{name}" if parent else name
    if full in found.lines and "<<" not in full:
        raise ConfigError(f"{_place(key, path)}: duplicate key {full}, first in line {found.lines[full]}")
    found.lines[full] = key.start_mark.line + 1
    if name.startswith("_target_") or name == "custom_search_space":
        found.refused.append(f"{full}: names code, and a config is data ({_place(key, path)})")
    return full


def _place(node: yaml.Node, path: Path) -> str:
    """Return the file and line of a node, for a message: finding the shown path takes time."""
    return f"{shown(path)}, line {node.start_mark.line + 1}"


def _comment(value: yaml.Node, lines: list[str]) -> str:
    """Return the comment after a value; for a block mapping, the comment after its key."""
    if isinstance(value, yaml.MappingNode) and not value.flow_style:
        row = value.start_mark.line - 1
        while row > 0 and lines[row].lstrip().startswith("#"):
            row -= 1
        return lines[row].partition(" #")[2].strip()
    mark = value.end_mark
    rest = lines[mark.line][mark.column : mark.column + MAX_COMMENT] if mark.line < len(lines) else ""
    return rest.partition("#")[2].strip()


def _header(lines: list[str]) -> str:
    """Return the comment block at the top of a file, without Hydra's ``@package`` line."""
    block: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            block.append(line.lstrip("#").strip())
    return "\n".join(block)
