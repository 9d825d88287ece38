"""Random commands of ``train``, of sweeps and of ``trainer``: each works, or is refused in a line for each mistake."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import cli
from tests.made import Made
from trainer.__main__ import main
from trainer.commands import COMMANDS
from trainer.commands.parsers import parsers
from trainer.config import GROUPS, Settings
from trainer.config.registry import registries
from trainer.config.signature import keys_in

COMMANDS_OF_PART = 25
PARTS = 80  # tests, so that they run side by side; one of them by default

# Data sets that are downloaded stay out of it, and models that take long to build.
OPTIONS = {
    group: [name for name in components.names() if group != "dataset" or name in ("digits", "synthetic")]
    for group, components in registries().items()
}
OPTIONS["model"].remove("torchvision")
KEYS = [key for key in keys_in(Settings) if key not in (*GROUPS, "plugins", "dry_run")]
KEYS += [f"checkpoint.{key}" for key in ("keep", "every_steps")] + ["logger.csv.file", "hydra.sweep.dir"]
KEYS += [
    f"{group}.{key}"
    for group, components in registries().items()
    if group not in ("logger", "device")  # threads would slow down everything else
    for name in OPTIONS[group]
    for key in components.keys(name)
]

numbers = st.sampled_from([-1, 0, 1, 2, 3, 7, 64, 10**30, 0.0, 0.1, 0.5, 1.0, 1.5, 1e-3, -0.1, "nan", "inf", "1e400"])
WORDS = """null true false auto bf16 fp16 balanced batch val/loss accuracy image tokens abc '' "" [1 a,b x=y ~ ~/x é a:b
{a:1} [] [1,2] [8] [a] [accuracy,f1] [0.9,0.99] [2,3,4] ${seed} ${oc.env:PATH} ${oc.decode:1} ${nope} ${ $
{_target_:os.system} range(1,3) choice(1,2) int(3) sort(3,2) glob(*) ../up /proc/x"""
words = st.sampled_from([*WORDS.split(), "a b"])
texts = st.text(st.characters(min_codepoint=9, max_codepoint=0x250, exclude_characters="/"), max_size=8)
values = st.one_of(numbers.map(str), words, texts)
typos = st.tuples(st.sampled_from(KEYS), st.integers(0, 30)).map(
    lambda pair: pair[0][: pair[1]] + pair[0][pair[1] + 1 :]
)
keys = st.one_of(st.sampled_from(KEYS), st.sampled_from(KEYS), typos, texts)
choices = st.sampled_from([(group, name) for group, names in OPTIONS.items() for name in [*names, "wrong", "null"]])
prefixes = st.sampled_from(["", "", "", "", "", "", "+", "++", "~"])
overrides = st.one_of(
    st.tuples(prefixes, keys, values).map(lambda parts: f"{parts[0]}{parts[1]}={parts[2]}"),
    st.tuples(prefixes, keys, values).map(lambda parts: f"{parts[0]}{parts[1]}={parts[2]}"),
    choices.map("=".join),
    texts,
)
commands = st.lists(overrides, min_size=1, max_size=3)


# Sweeps of two values at most, so that the few that are right end soon.
several = st.tuples(keys, st.tuples(values, values).map(",".join)).map("=".join)
sweeps = st.tuples(several, st.lists(overrides, max_size=1)).map(lambda parts: ["-m", parts[0], *parts[1]])

RUN = "run"  # the finished run in the folder of each command of ``trainer``
OPTIONS_OF = {name: [*parsers([name])[1][name]._option_string_actions] for name in COMMANDS}
names = st.one_of(st.sampled_from([RUN, RUN, RUN, ".", "last", "rum", "/", "-", f"{RUN}/config.yaml"]), texts)


def arguments_of(command: str) -> st.SearchStrategy[list[str]]:
    options = st.tuples(st.sampled_from(OPTIONS_OF[command]), st.one_of(values, names)).map(list)
    flags = st.sampled_from(OPTIONS_OF[command]).map(lambda option: [option])
    some = st.one_of(options, flags, overrides.map(lambda word: [word]), names.map(lambda name: [name]))
    return st.lists(some, max_size=3).map(lambda parts: [command, *[word for part in parts for word in part]])


def run(main: Callable[[list[str]], int], words: list[str], template: Path | None = None) -> tuple[int, str, list[str]]:
    """Run a command in a new folder.

    Args:
        main: the program.
        words: its arguments.
        template: the run that the folder holds; None for an empty folder.

    Returns:
        The exit code, what was written to stderr, and the names in the folder besides that of the run.
    """
    before, argv = Path.cwd(), sys.argv
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        errors = io.StringIO()
        if template is not None:
            shutil.copytree(template, Path(folder, RUN))
        try:
            os.chdir(folder)
            sys.argv = ["train"]
            with contextlib.redirect_stderr(errors):
                code = main(words)
        except SystemExit as ended:  # argparse, with its own usage
            code = int(ended.code or 0)
        finally:
            os.chdir(before)
            sys.argv = argv
        return code, errors.getvalue(), sorted(path.name for path in Path(folder).iterdir() if path.name != RUN)


def check_commands(part: int, strategy: st.SearchStrategy[list[str]], check: Callable[[list[str]], int]) -> list[int]:
    """Check ``COMMANDS_OF_PART`` random commands; ``check`` returns the exit code of one. Return all exit codes."""
    codes: list[int] = []

    @seed(part)
    @settings(max_examples=COMMANDS_OF_PART, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def check_all(words: list[str]) -> None:
        codes.append(check(words))

    check_all()
    assert len(codes) >= COMMANDS_OF_PART
    return codes


def assert_refused(errors: str, line: str, written: list[str]) -> None:
    """Assert that nothing was written, and that each line of the errors is as the pattern ``line`` says."""
    assert written == []
    lines = [each for each in errors.splitlines() if each]
    assert lines
    assert all(re.match(line, each) for each in lines), errors
    assert not re.search(r"Error\b|Exception|lambda|hydra\.cc|struct", errors), errors


def ended(result: tuple[int, str, list[str]], line: str) -> int:
    """Return the exit code of a command that has worked, failed in its work, or was refused."""
    code, errors, written = result
    assert code in (0, 1, 2), errors
    assert "Traceback" not in errors
    if code == 2:
        assert_refused(errors, line, written)
    return code


OF_TRAIN = r"train: error: .+"
OF_TRAINER = r"trainer.*: (error|warning): .+|usage: | "  # argparse prints a usage of several lines

parts = pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, PARTS))])


@parts
def test_a_random_command_trains_or_is_refused_in_one_line_for_each_mistake(part: int) -> None:
    def check(words: list[str]) -> int:
        code, errors, written = run(cli.main, [*words, "dry_run=true", "limit_batches=1", "device=cpu"])
        diverged = re.fullmatch(r"train: error: .* (is|are) (nan|-?inf)\b.*\n", errors)  # with optimizer.lr=1e30
        assert code in (0, 2) or (code == 1 and diverged), errors
        assert written == []
        assert "Traceback" not in errors
        if code == 2:
            assert_refused(errors, OF_TRAIN, written)
        return code

    codes = check_commands(part, commands, check)
    # about one command in twelve is right, so a part may have none
    assert 0 in codes or part > 0, "not one of them was right"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Made(tmp_path_factory.mktemp("made")).run("cnn", "image")


@parts
@pytest.mark.slow
def test_a_random_sweep_ends_or_is_refused_in_one_line_for_each_mistake(part: int) -> None:
    dry = ["dry_run=true", "limit_batches=1", "device=cpu"]
    check_commands(part, sweeps, lambda words: ended(run(cli.main, [*words, *dry]), OF_TRAIN))


@parts
@pytest.mark.slow
def test_a_random_command_of_trainer_works_or_is_refused_in_one_line(
    part: int, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # which trainer completion changes
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))

    strategy = st.one_of(*map(arguments_of, COMMANDS))
    check_commands(part, strategy, lambda words: ended(run(main, words, finished), OF_TRAINER))
