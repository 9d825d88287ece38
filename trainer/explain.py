"""What ``train --help`` says: the groups, the keys, and of what was typed each key with its type, range and sentence.

Every sentence stands once: in the comment of the YAML, or in the docstring of a component that has no YAML.
"""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from typing import Any

from trainer import signature, yamlfile
from trainer.composition import Composer, shown
from trainer.config import GROUPS, MISSING, Settings, describe, keys_in, registry

USAGE = """train: train a PyTorch model; configs choose its parts

usage: train [group=option …] [key=value …] [option …]"""

EXAMPLES = """Examples:
  train                                                     the bundled digits with the default network
  train model=gru epochs=30 optimizer.lr=3e-3               another model, another length, another learning rate
  train model=lstm --help                                   what the keys of a model mean
  train dataset=mnist dataset.root=data scheduler=onecycle  your copy of MNIST, or a new one
  train --multirun optimizer.lr=1e-3,3e-3 seed=0,1,2        six runs"""

OPTIONS = """Options:
  -h, --help           this text; with group=option the keys of that option
  -c, --cfg job        print the config that the command makes, and stop
  -m, --multirun       a run for each combination of values separated by commas
  -cd, --config-dir D  a folder of YAML files of your own beside ours
  -i, --info           how the config is put together
  --version            versions
  --hydra-help         more options, of Hydra; completion: trainer completion --help"""


def explain(composer: Composer, words: Sequence[str]) -> str:
    """The help text for a command: of what its words are about, or of everything."""
    config = composer.composed(words)
    wanted = {word.lstrip("+~").partition("=")[0].partition(".")[0] for word in words}
    groups = [group for group in (*GROUPS, "experiment") if group in wanted]
    if not groups:
        return "\n\n".join([USAGE, _groups(composer, config), _keys(config), OPTIONS, EXAMPLES])
    return "\n\n".join(section for group in groups for section in _sections(composer, group, config, words))


def _groups(composer: Composer, config: Mapping[str, Any]) -> str:
    """Every group with a line for each option."""
    lines = ["Groups (group=option; an option's keys: train model=cnn --help):"]
    for group in (*GROUPS, "experiment"):
        chosen = config[group] if group == "logger" else [config.get(group, {}).get("name")]
        options = composer.options(group)
        width = max(map(len, options), default=0)
        for number, option in enumerate(options):
            mark = "*" if option in chosen else " "
            start = f"  {group if number == 0 else '':<11}{mark} {option:<{width}}  "
            lines.append(start + _cut(_first_sentence(_header(composer, group, option)), len(start)))
    return "\n".join([*lines, "  (* is the default)"])


def _keys(config: Mapping[str, Any]) -> str:
    """Every top-level key with its default and its meaning."""
    rows = []
    for key, parameter in keys_in(Settings).items():
        if key in GROUPS:
            continue
        if nested := keys_in(parameter.annotation):
            rows += [(f"{key}.{name}", config[key][name], "") for name in nested]
        else:
            rows.append((key, config[key], ""))
    comments = yamlfile.read(_main_file()).comments
    return "Keys (key=value):\n" + _table([(key, value, [comments.get(key, "")]) for key, value, _ in rows])


def _sections(
    composer: Composer, group: str, config: Mapping[str, Any], words: Sequence[str]
) -> Iterator[str]:
    """An option with its sentences and its keys; several of the logger group."""
    if group == "experiment":
        for name in _typed(words, "experiment"):
            file = composer.file(f"experiment/{name}")
            yield f"experiment={name}{_at(file)}\n{_header(composer, 'experiment', name)}"
        return
    chosen = config[group] if group == "logger" else {config[group]["name"]: config[group]}
    for name, values in chosen.items():
        option = next(iter(_typed(words, group)), name) if group != "logger" else name
        path = f"logger.{name}" if group == "logger" else group
        file = composer.file(f"{group}/{option}") or composer.file(f"{group}/{name}")
        title = f"{group}={option}{_at(file or registry(group).file(name))}"
        keys = registry(group).keys(name)
        comments = _sentences(composer, group, option, name)
        rows = list(_rows(path, keys, values or {}, comments))
        table = _table([(key, value, lines) for key, value, lines in rows]) if rows else "  (no keys)"
        yield f"{title}\n{textwrap.indent(_header(composer, group, option) or _header(composer, group, name), '  ')}\n\n{table}"


def _rows(
    path: str, keys: Mapping[str, Parameter], values: Mapping[str, Any], comments: Mapping[str, str], prefix: str = ""
) -> Iterator[tuple[str, Any, list[str]]]:
    """The full key, its value, and its sentence and type; of nested keys each one."""
    for key, parameter in keys.items():
        default = None if parameter.default is Parameter.empty else parameter.default
        value = values.get(key, default) if parameter.default is not Parameter.empty else values.get(key, MISSING)
        nested = keys_in(parameter.annotation)
        if nested:
            yield from _rows(f"{path}.{key}", nested, value, comments, f"{prefix}{key}.")
        else:
            yield f"{path}.{key}", value, [comments.get(f"{prefix}{key}", ""), describe(parameter.annotation)]


def _table(rows: Iterable[tuple[str, Any, Sequence[str]]]) -> str:
    """Columns: key, value, and the texts under each other."""
    rows = [(key, _value(value), [text for text in texts if text]) for key, value, texts in rows]
    keys, values = max(len(row[0]) for row in rows), max(min(len(row[1]), 16) for row in rows)
    width = max(40, shutil.get_terminal_size((120, 24)).columns)
    lines = []
    for key, value, texts in rows:
        start = f"  {key:<{keys}}  {value:<{values}}  "
        wrapped = [line for text in texts for line in textwrap.wrap(text, max(30, width - keys - values - 6))] or [""]
        if len(value) > values:  # a long value has a line of its own
            lines.append(start.rstrip())
            start = " " * (keys + values + 6)
        lines.append((start + wrapped[0]).rstrip())
        lines += [" " * (keys + values + 6) + line for line in wrapped[1:]]
    return "\n".join(lines)


def _header(composer: Composer, group: str, option: str) -> str:
    """The sentences of an option: of its YAML, else of its docstring."""
    file = composer.file(f"{group}/{option}")
    if file is not None:
        header = yamlfile.read(file).header
        if header or group == "experiment":
            return header
    return signature.sentences(registry(group).doc(option))[0] if group in GROUPS else ""


def _sentences(composer: Composer, group: str, option: str, name: str) -> dict[str, str]:
    """The sentence of each key, the option's own YAML before the component's and that before the docstring."""
    found = signature.sentences(registry(group).doc(name))[1] if name in registry(group).own() else {}
    for each in (name, option):
        file = composer.file(f"{group}/{each}")
        if file is not None:
            found |= yamlfile.read(file).comments
    return found


def _typed(words: Sequence[str], group: str) -> list[str]:
    """The options that were typed for a group."""
    return [word.partition("=")[2] for word in words if word.partition("=")[0] == group]


def _main_file() -> Path:
    from trainer.composition import config_dir

    return config_dir() / "train.yaml"


def _at(file: Path | None) -> str:
    return f"  ({shown(file)})" if file is not None else ""


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[^.]\.)\s|:\s", " ".join(text.split()), maxsplit=1)[0].rstrip(":")


def _cut(text: str, used: int) -> str:
    width = max(40, shutil.get_terminal_size((120, 24)).columns) - used
    return text if len(text) <= width else textwrap.shorten(text, max(20, width), placeholder=" …")


def _value(value: Any) -> str:
    if isinstance(value, str):
        return "(must be given)" if value == MISSING else value
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
