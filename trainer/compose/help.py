"""Build the text of ``train --help``: all groups and keys, or the keys of the chosen options with type and meaning.

Each description is written only once: in a comment of the YAML file, or in the docstring of a component without YAML.
"""

from __future__ import annotations

import re
import shlex
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from typing import Any, NamedTuple

from trainer.compose.composer import Composer
from trainer.config import GROUPS, ConfigError, Settings, signature, yaml_file
from trainer.config.check import MISSING
from trainer.config.messages import describe
from trainer.config.registry import registry
from trainer.config.settings import key_of
from trainer.config.signature import keys_in
from trainer.config.yaml_file import config_dir, shown
from trainer.runs.read import format_value

USAGE = """train: train a PyTorch model; configs choose its parts

usage: train [group=option …] [key=value …] [option …]"""

EXAMPLES = """Examples:
  train                                                     the bundled digits with the default network
  train model=gru epochs=30 optimizer.lr=3e-3               another model, another length, another learning rate
  train model=lstm --help                                   what the keys of a model mean
  train dataset=mnist dataset.root=data scheduler=onecycle  your copy of MNIST, or a new one
  train --multirun optimizer.lr=1e-3,3e-3 seed=0,1,2        six runs and a table
  train sweep=last                                          the last sweep goes on
  train device=ddp device.processes=4                       four processes, one run"""

OPTIONS = """Options:
  -h, --help           this text; with group=option the keys of that option
  -c, --cfg job        print the config that the command makes, and stop
  -m, --multirun       a run for each combination of values separated by commas;
                       with hydra/sweeper=optuna, a search in interval(1,2)
  -cd, --config-dir D  a folder of YAML files of your own beside ours
  -i, --info           how the config is put together
  --version            versions
  --hydra-help         what else Hydra can
  completion by the tab key: trainer completion"""


def explain(composer: Composer, words: Sequence[str]) -> str:
    """Return the help text for the groups that ``words`` name, or for all groups and keys if they name none."""
    config = composer.composed(words)
    wanted = {key_of(word).partition(".")[0] for word in words}
    groups = [group for group in (*GROUPS, "experiment") if group in wanted]
    if not groups:
        keys = "Keys (key=value):\n" + _table(top_rows(config))
        return "\n\n".join([USAGE, _groups(composer, config), keys, OPTIONS, EXAMPLES])
    return "\n\n".join(section for group in groups for section in _sections(composer, group, config, words))


def _groups(composer: Composer, config: Mapping[str, Any]) -> str:
    """List every group with a line for each option."""
    lines = ["Groups (group=option; an option's keys: train model=cnn --help):"]
    for group in (*GROUPS, "experiment"):
        defaults = [name for _, name, _ in chosen(group, config)] if group in GROUPS else []
        options = composer.options(group)
        width = max(map(len, options), default=0)
        for number, option in enumerate(options):
            mark = "*" if option in defaults else " "
            start = f"  {group if number == 0 else '':<11}{mark} {option:<{width}}  "
            lines.append(start + _cut(first_line(composer, group, option), len(start)))
    return "\n".join([*lines, "  (* is the default)"])


def top_rows(config: Mapping[str, Any]) -> list[Row]:
    """Return a row for each key that belongs to no group, without its type."""
    comments = yaml_file.read(config_dir() / "train.yaml").comments
    found = []
    for key, parameter in keys_in(Settings).items():
        nested = keys_in(parameter.annotation)
        if key not in GROUPS and not nested:
            found.append(Row(key, config[key], comments.get(key, ""), ""))
        found += [Row(f"{key}.{name}", config[key][name], comments.get(f"{key}.{name}", ""), "") for name in nested]
    return found


def chosen(group: str, config: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return ``(path, name, values)`` for each chosen component of a group; ``path`` is the prefix of its keys."""
    if group == "logger":
        return [(f"logger.{name}", name, values or {}) for name, values in config[group].items()]
    return [(group, config[group]["name"], config[group])]


def _sections(composer: Composer, group: str, config: Mapping[str, Any], words: Sequence[str]) -> Iterator[str]:
    """Yield the description and the keys of each chosen option of a group."""
    if group == "experiment":
        for name in _typed(words, "experiment"):
            file = composer.file(f"experiment/{name}")
            header = textwrap.indent(_header(composer, "experiment", name), "  ")
            folder = f"--config-dir {shlex.quote(composer.extra_dir)} " if composer.extra_dir else ""
            whole = f"  its config: train {folder}experiment={name} --cfg job"
            yield f"experiment={name}{_at(file)}\n{header}\n\n{whole}"
        return
    for path, name, values in chosen(group, config):
        option = next(iter(_typed(words, group)), name) if group != "logger" else name
        file = composer.file(f"{group}/{option}") or composer.file(f"{group}/{name}")
        title = f"{group}={option}{_at(file or registry(group).file(name))}"
        keys = registry(group).keys(name)
        comments = sentences(composer, group, option, name)
        table = _table(rows(path, keys, values, comments)) or "  (no keys)"
        header = textwrap.indent(_header(composer, group, option) or _header(composer, group, name), "  ")
        yield f"{title}\n{header}\n\n{table}"


class Row(NamedTuple):
    """One row of the help: a key, its value, its description and its type in words."""

    key: str
    value: Any
    sentence: str
    kind: str


def rows(
    path: str, keys: Mapping[str, Parameter], values: Mapping[str, Any], comments: Mapping[str, str], prefix: str = ""
) -> Iterator[Row]:
    """Yield a row for each key below ``path``; a key that is a mapping yields a row for each of its own keys."""
    for key, parameter in keys.items():
        default = MISSING if parameter.default is Parameter.empty else parameter.default
        value, nested = values.get(key, default), keys_in(parameter.annotation)
        if nested:
            inner = value if isinstance(value, Mapping) else {}
            yield from rows(f"{path}.{key}", nested, inner, comments, f"{prefix}{key}.")
        else:
            yield Row(f"{path}.{key}", value, comments.get(f"{prefix}{key}", ""), describe(parameter.annotation))


def _table(rows: Iterable[Row]) -> str:
    """Format rows in columns: key, value, and the description above the type."""
    lines, cells = [], [(row.key, shown_value(row.value), row.sentence, row.kind) for row in rows]
    keys = max((len(key) for key, *_ in cells), default=0)
    values = max((len(value) for _, value, *_ in cells if len(value) <= 16), default=0)
    indent = " " * (keys + values + 6)
    room = max(30, shutil.get_terminal_size((120, 24)).columns - len(indent))
    for key, value, *texts in cells:
        start = f"  {key:<{keys}}  {value:<{values}}  "
        wrapped = [line for text in texts if text for line in textwrap.wrap(text, room)] or [""]
        if len(value) > values:  # the description of a long value begins on the next line
            lines.append(start.rstrip())
            start = indent
        lines += [(start + wrapped[0]).rstrip(), *(indent + line for line in wrapped[1:])]
    return "\n".join(lines)


def first_line(composer: Composer, group: str, option: str) -> str:
    """Return the first sentence of the description of an option."""
    text = " ".join(_header(composer, group, option).split())
    return re.split(r"(?<=\w\w[\w)]\.)\s(?=[A-Z0-9])", text, maxsplit=1)[0]


def _header(composer: Composer, group: str, option: str) -> str:
    """Return the description of an option from its YAML file, or else from its docstring."""
    file = composer.file(f"{group}/{option}")
    if file is not None:
        try:
            header = yaml_file.read(file).header
        except ConfigError as error:  # a broken file must not hide the other options
            header = f"({error})"
        if header or group == "experiment":
            return header
    return signature.sentences(registry(group).doc(option))[0] if group in GROUPS else ""


def sentences(composer: Composer, group: str, option: str, name: str) -> dict[str, str]:
    """Map each key to its description: from the option's YAML, else the component's YAML, else the docstring."""
    found = signature.sentences(registry(group).doc(name))[1] if name in registry(group).own() else {}
    for each in (name, option):
        file = composer.file(f"{group}/{each}")
        if file is not None:
            found |= yaml_file.read(file).comments
    return found


def _typed(words: Sequence[str], group: str) -> list[str]:
    """Return the values that ``words`` give a group."""
    return [word.partition("=")[2] for word in words if word.partition("=")[0] == group]


def _at(file: Path | None) -> str:
    return f"  ({shown(file)})" if file is not None else ""


def _cut(text: str, used: int) -> str:
    width = max(40, shutil.get_terminal_size((120, 24)).columns) - used
    return text if len(text) <= width else textwrap.shorten(text, max(20, width), placeholder=" …")


def shown_value(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    return "(must be given)" if value == MISSING else format_value(value)
