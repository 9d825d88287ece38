"""Tab completion for bash, zsh and fish. No torch.

``argcomplete`` communicates with the shells; this module finds the completions and installs the shell scripts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import argcomplete
from argcomplete.completers import DirectoriesCompleter, FilesCompleter
from argcomplete.shell_integration import shellcode

from trainer.compose import help
from trainer.compose.check_command import check_words
from trainer.compose.composer import Composer
from trainer.config import GROUPS, ConfigError, Settings
from trainer.config.messages import choices
from trainer.config.registry import registry
from trainer.config.signature import keys_in
from trainer.runs import atomic_files

COMMANDS = ("train", "trainer")
SHELLS = ("bash", "zsh", "fish")
PATHS = ("plugins", "run_dir", "resume", "dataset.root", "dataset.path", "dataset.labels")


def answer(parser: argparse.ArgumentParser) -> None:
    """Answer a shell's request for completions, and exit the process."""
    for action in parser._actions:
        if action.help is not None and not isinstance(action.help, str):
            action.help = "install or remove Hydra's own completion"
    offer(parser)
    argcomplete.autocomplete(parser, always_complete_options=False, exclude=["--experimental-rerun"])


def offer(parser: argparse.ArgumentParser) -> None:
    """Add the completion of overrides and config folders to a parser."""
    for action in parser._actions:
        if action.dest == "overrides":
            setattr(action, "completer", _complete)  # noqa: B010  # argcomplete reads this attribute
        elif action.dest in ("config_dir", "config_path"):
            setattr(action, "completer", DirectoriesCompleter())  # noqa: B010


def offer_folders(parser: argparse.ArgumentParser) -> None:
    """Add the completion of folders to the positional arguments of a parser."""
    for action in parser._actions:
        if not action.option_strings:
            setattr(action, "completer", DirectoriesCompleter())  # noqa: B010


def candidates(prefix: str, words: Sequence[str], extra_dir: str | None = None) -> dict[str, str]:
    """Return the completions of ``prefix``, each with its description.

    Args:
        prefix: the beginning of a word.
        words: the words on the command line before ``prefix``; wrong words are ignored.
        extra_dir: the value of ``--config-dir``.
    """
    try:
        composer = Composer(extra_dir)
    except ConfigError:
        composer = Composer()
    config = composer.composed(_right(composer, words))
    key, equals, value = prefix.partition("=")
    if not equals:
        return _keys(composer, config, prefix)
    if key in (*GROUPS, "experiment"):
        before, comma, _ = value.rpartition(",")
        start = f"{key}={before}{comma}"
        return {f"{start}{option}": help.first_line(composer, key, option) for option in composer.options(key)}
    if key in PATHS:
        return {f"{key}={path}": "" for path in FilesCompleter()(value)}
    return {f"{key}={word}": "" for word in _values(key, config)}


def _right(composer: Composer, words: Sequence[str]) -> list[str]:
    """Return ``words`` without those that make the command invalid."""
    kept: list[str] = []
    with contextlib.suppress(ConfigError):
        check_words(composer, words, trains=False)
        return list(words)
    for word in words:
        with contextlib.suppress(ConfigError):
            check_words(composer, [*kept, word], trains=False)
            kept.append(word)
    return kept


def script(shell: str) -> str:
    """Return the shell script that enables the completion."""
    return shellcode(list(COMMANDS), shell=shell)


def install(shell: str) -> list[Path]:
    """Install the completion permanently, and return the files that were written or changed."""
    home = Path.home()
    if shell == "fish":
        folder = Path(os.environ.get("XDG_CONFIG_HOME", home / ".config")) / "fish" / "completions"
        files = [folder / f"{command}.fish" for command in COMMANDS]
        for file, command in zip(files, COMMANDS, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_files.write_text(file, shellcode([command], shell="fish"))
        return files
    file = Path(os.environ.get("XDG_DATA_HOME", home / ".local" / "share")) / "trainer" / f"completion.{shell}"
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_files.write_text(file, script(shell))
    start = (Path(os.environ.get("ZDOTDIR", home)) if shell == "zsh" else home) / f".{shell}rc"
    line = f"[ -r '{file}' ] && . '{file}'  # tab completion for train"
    if shell == "zsh":
        line = f"(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit -u }}\n{line}"
    known = start.read_text(encoding="utf-8") if start.is_file() else ""
    if line in known:
        return [file]
    with start.open("a", encoding="utf-8") as stream:
        stream.write(f"{'' if not known or known.endswith(chr(10)) else chr(10)}{line}\n")
    return [file, start]


def _complete(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> dict[str, str]:
    found = candidates(prefix, parsed_args.overrides or [], getattr(parsed_args, "config_dir", None))
    return {word: sentence for word, sentence in found.items() if word.startswith(prefix)}


def _keys(composer: Composer, config: dict[str, Any], prefix: str) -> dict[str, str]:
    """Return all groups and top-level keys; if ``prefix`` is not empty, also the keys of the chosen components."""
    found = {f"{group}=": f"one of {', '.join(composer.options(group))}" for group in (*GROUPS, "experiment")}
    found |= {f"{row.key}=": row.sentence for row in help.top_rows(config)}
    if prefix:
        for group in GROUPS:
            for path, name, values in help.chosen(group, config):
                sentences = help.sentences(composer, group, name, name)
                rows = help.rows(path, registry(group).keys(name), values, sentences)
                found |= {f"{row.key}=": row.sentence for row in rows}
    return found


def _values(key: str, config: dict[str, Any]) -> list[str]:
    """Return the values that the type of a key lists (a choice, true, false or null), or else its current value."""
    parameters, node = keys_in(Settings), config
    *parents, leaf = key.split(".")
    for count, name in enumerate(parents):
        if name in GROUPS and name != "logger" and count == 0:
            parameters = registry(name).keys(config[name]["name"])
        elif name in parameters:
            parameters = keys_in(parameters[name].annotation)
        node = node.get(name, {}) if isinstance(node, dict) else {}
    if leaf not in parameters:
        return []
    return choices(parameters[leaf].annotation) or [help.shown_value(node.get(leaf)).replace(" ", "")]
