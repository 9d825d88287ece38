"""Parse the command line of ``train`` with Hydra's parser, and report each mistake in one line. No torch."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser

from trainer.compose.check_command import Checked, check_words, resumes_a_sweep, with_earlier_words
from trainer.compose.composer import GRID, SEARCH, Composer
from trainer.config import ConfigError, Settings
from trainer.config.errors import collected
from trainer.config.messages import nearest
from trainer.config.registry import registry
from trainer.config.settings import OF_SWEEPS, key_of
from trainer.config.signature import keys_in


class Command:
    """A parsed command line.

    Args:
        options: the options that Hydra's parser returned, and ``version``.
        parser: Hydra's parser.
        problems: one line for each wrong option.
    """

    def __init__(self, options: argparse.Namespace, parser: argparse.ArgumentParser, problems: Sequence[str]) -> None:
        self.options, self.parser = options, parser
        self.checked: Checked | None = None  # None if Hydra's own application executes the command
        self._problems = problems

    def text(self) -> str | None:
        """Check the command; return the text to print for ``--help`` or ``--version``, or None for other commands.

        Raises:
            ConfigError: the command is wrong; one line for each mistake.
        """
        options, problems = self.options, list(self._problems)
        if options.version and not problems:
            return version()
        nothing_typed = not (options.overrides or options.config_dir or options.config_path or options.config_name)
        by_hydra = options.hydra_help or options.info
        if (options.shell_completion or (by_hydra and nothing_typed)) and not problems:
            return None
        trains = not (options.help or options.cfg or by_hydra or problems)
        multirun = options.multirun or resumes_a_sweep(options.overrides) or "hydra.mode=MULTIRUN" in options.overrides
        with collected(problems):
            composer = Composer(options.config_dir, options.config_path, options.config_name)
            words = with_earlier_words(options.overrides, multirun=multirun)
            checked = check_words(composer, words, multirun=multirun, trains=trains)
            if trains and not checked.is_sweep:
                problems += _keys_of_a_sweep(words)
        if problems:
            raise ConfigError(*problems)
        if options.help:
            from trainer.compose.help import explain

            return explain(composer, words)
        if options.package and not composer.has(options.package, words):
            raise ConfigError(f"--package: {options.package}: no such part of the config")
        foreign = checked.is_sweep and checked.hydra["sweeper"]["_target_"] not in (GRID, SEARCH)
        if trains and not foreign:
            self.checked = checked
        else:
            options.overrides, options.multirun = composer.for_hydra(words), options.multirun or foreign
        return None


def _keys_of_a_sweep(words: Iterable[str]) -> list[str]:
    """Return one line for each key that has no effect on a single run."""
    return [
        f"{key}: is a key of a sweep (from the command line); add -m" + "; a run's is run_dir" * (key == "sweep_dir")
        for key in dict.fromkeys(key_of(word) for word in words)
        if key.partition(".")[0] in OF_SWEEPS
    ]


def parse(words: Sequence[str]) -> Command:
    """Parse a command line.

    Raises:
        ConfigError: an option is misused. ``Command.text`` reports unknown options.
    """
    _mend_argparse()
    parser = get_args_parser()
    for action in parser._actions:
        if "--version" in action.option_strings:
            parser._handle_conflict_resolve(None, [("--version", action)])  # type: ignore[arg-type]
    parser.add_argument("--version", action="store_true", help="print the versions")
    if "_ARGCOMPLETE" in os.environ:
        from trainer.compose import completion

        completion.answer(parser)
    parser.error = _error  # type: ignore[method-assign]
    words, problems = _without_unknown(words, parser)
    options = parser.parse_intermixed_args(words)
    chosen = [f"--{name}" for name in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(options, name)]
    if len(chosen) > 1:
        problems.append(f"{' and '.join(chosen).replace('_', '-')}: only one of them at a time")
    without = [name for name in ("resolve", "package") if getattr(options, name) and not options.cfg]
    problems += [f"--{name}: needs --cfg job" for name in without]
    return Command(options, parser, problems)


def version() -> str:
    """Return ``trainer-cli 0.1.0 (torch 2.13.0, hydra-core 1.3.8, Python 3.11.7)``."""
    from trainer import __version__

    others = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "hydra-core"))
    return f"trainer-cli {__version__} ({others}, Python {sys.version.split()[0]})"


def _without_unknown(words: Sequence[str], parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """Return the arguments that the parser accepts, and one line for each option that is unknown or lacks its value."""
    known = {option: action for action in parser._actions for option in action.option_strings}
    kept: list[str] = []
    problems: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, _, value = word.partition("=")
        long = [name for name in known if option.startswith("--") and name.startswith(option)]
        if not option.startswith("-") or option == "-" or re.fullmatch(r"-\d.*", option):
            kept.append(word)
        elif option == "--experimental-rerun":
            problems.append(
                f"{option}: reads a file that can be code, and a config is data; train from config.yaml's keys"
            )
            del rest[: not value and len(rest) > 0]
        elif option in known or len(long) == 1:
            action = known[option if option in known else long[0]]
            kept.append(word)
            if action.dest == "info" and not value and (not rest or rest[0] not in (action.choices or ())):
                kept[-1] = f"{word}=all" if word.startswith("--") else f"{word}all"
            elif action.nargs is None and not isinstance(action, argparse._StoreTrueAction) and not value:
                if not rest or not rest[0]:
                    problems.append(f"{word}: needs a value")
                    kept.pop()
                    del rest[:1]
                else:
                    kept.append(rest.pop(0))
        else:
            takes = not value and bool(rest) and not rest[0].startswith("-") and "=" not in rest[0]
            problems.append(_unknown(option, value or (rest.pop(0) if takes else ""), known))
    return kept, problems


def _unknown(option: str, value: str, known: Iterable[str]) -> str:
    """Return the error message for an unknown option, which may be a key or a misspelling."""
    name, keys = option.lstrip("-").replace("-", "_"), _keys()
    near = nearest(option, known)
    if name in keys:
        return f"{option}: no such option; keys have no dashes: write {keys[name]}={value or '…'}"
    if near:
        return f"{option}: no such option; did you mean {near}? train --help lists them"
    key = nearest(name, keys)
    if key:
        return f"{option}: no such option; did you mean {keys[key]}={value or '…'}? train --help lists the keys"
    return f"{option}: no such option; options: {', '.join(name for name in known if name.startswith('--'))}"


def _keys() -> dict[str, str]:
    """Map each key name without its group to the full key, such as ``lr`` to ``optimizer.lr``."""
    below = {
        key: f"{group}.{key}"
        for group in ("dataset", "model", "optimizer")
        for name in registry(group).names()
        for key in registry(group).keys(name)
    }
    return {**below, **{key: key for key in keys_in(Settings)}, "gpu": "device=cuda"}


def _error(message: str) -> NoReturn:
    """Raise ConfigError with argparse's message about a misused option."""
    found = re.match(r"argument ([^:]*): invalid choice: (.*) \(choose from (.*)\)", message)
    if found:
        option, value, allowed = found.groups()
        allowed = allowed.replace("'", "")
        raise ConfigError(f"{option.split('/')[0]}: must be one of {allowed}, got {value}")
    found = re.match(r"argument ([^:]*): ignored explicit argument (.*)", message)
    if found:
        raise ConfigError(f"{found[1].split('/')[0]}: takes no value, got {found[2]}")
    raise ConfigError(re.sub(r"^argument ([^:/]*)[^:]*:", r"\1:", message))


def _mend_argparse() -> None:
    """Let Hydra 1.3 run on Python 3.14, whose argparse requires help texts to be strings."""
    check: Any = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None:
        return

    def lenient(self: argparse.ArgumentParser, action: argparse.Action) -> None:
        if action.help is not None and not isinstance(action.help, str):
            action.help = "Install or uninstall shell completion"
        check(self, action)

    argparse.ArgumentParser._check_help = lenient  # type: ignore[attr-defined]
