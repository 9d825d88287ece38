"""Random commands: each trains a dry run, or is refused in one line for each mistake with nothing written."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import cli
from trainer.config import GROUPS, Settings
from trainer.config.registry import registries
from trainer.config.signature import keys_in

COMMANDS = 25  # of a part
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


def run(words: list[str]) -> tuple[int, str, list[str]]:
    """The exit code, what stood on stderr, and what was written, of ``train`` in an empty folder."""
    before, argv = Path.cwd(), sys.argv
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        errors = io.StringIO()
        try:
            os.chdir(folder)
            sys.argv = ["train"]
            with contextlib.redirect_stderr(errors):
                code = cli.main([*words, "dry_run=true", "limit_batches=1", "device=cpu"])
        finally:
            os.chdir(before)
            sys.argv = argv
        return code, errors.getvalue(), sorted(path.name for path in Path(folder).iterdir())


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, PARTS))])
def test_a_random_command_trains_or_is_refused_in_one_line_for_each_mistake(part: int) -> None:
    @seed(part)
    @settings(
        max_examples=COMMANDS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(commands)
    def check(words: list[str]) -> None:
        seen.append(words)
        code, errors, written = run(words)
        assert code in (0, 2), errors
        assert written == []
        assert "Traceback" not in errors
        if code == 2:
            lines = [line for line in errors.splitlines() if line]
            assert lines
            assert all(re.match(r"train: error: .+", line) for line in lines), errors
            assert not re.search(r"Error\b|Exception|lambda|hydra\.cc|struct", errors.replace("train: error", "")), (
                errors
            )
        else:
            trained.append(words)

    seen: list[list[str]] = []
    trained: list[list[str]] = []
    check()
    assert len(seen) >= COMMANDS
    assert trained or part > 0, "not one of them was right"  # about one command in twelve is, so a part may have none
