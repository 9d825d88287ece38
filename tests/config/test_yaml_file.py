"""YAML files: lines, comments, and what no config may hold."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from trainer.config import ConfigError, yaml_file


def read(folder: Path, text: str) -> yaml_file.YamlFile:
    (folder / "some.yaml").write_text(text)
    return yaml_file.read(folder / "some.yaml")


def test_keys_have_lines_and_comments(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "# @package _global_\n# First.\n# Second.\nname: cnn\nnested:   # a mapping\n  # about what follows\n"
        "  one: '# no comment'  # a comment\n  two: [1,\n    2]  # after a list\nlast: a#b\n",
    )
    assert found.header == "First.\nSecond."
    assert found.lines == {"name": 4, "nested": 5, "nested.one": 7, "nested.two": 8, "last": 10}
    assert found.comments == {"nested": "a mapping", "nested.one": "a comment", "nested.two": "after a list"}
    assert found.refused == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("${model.hidden}", None),
        ("outputs/${now:%Y}/${hydra.job.num}", None),
        ("${oc.env:HOME}/${oc.env:SLURM_JOB_ID}/${oc.env:TRAINER_DATA,data}", None),
        ("$5 and {braces}", None),
        ("${oc.env:SECRET}", "${oc.env:SECRET} is not allowed"),
        ("${oc.env: HOMES}", "is not allowed"),
        ("${oc.decode:x}", "${oc.decode:…} is not allowed"),
        ("${ oc.decode : x}", "is not allowed"),
        ("${oc.select:x}", "is not allowed"),
        ("${env:HOME}", "is not allowed"),
        ("${hydra:runtime.cwd}", "is not allowed"),
        ("${now:}", "needs a format"),
        ("${a.${b}}", "inside an interpolation"),
        ("${${b}:x}", "inside an interpolation"),
    ],
)
def test_an_interpolation_reads_only_what_is_listed(value: str, reason: str | None) -> None:
    found = yaml_file.refusals(value)
    assert (found == []) if reason is None else (reason in found[0])


def test_a_bomb_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 40)]
    started = time.monotonic()
    with pytest.raises(
        ConfigError, match="line 4: more than 10,000 keys and values, with those that its anchors repeat"
    ):
        read(tmp_path, "\n".join(lines))
    assert time.monotonic() - started < 10  # the anchors expand to 10^40 values


def test_a_key_of_a_stored_file_has_one_value(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a:\n  b: 1\n  c: 2\n  b: 3\n")
    with pytest.raises(ConfigError, match="line 4: duplicate key b"):
        yaml_file.load(tmp_path / "x.yaml")


def test_an_escape_in_a_comment_keeps_the_fast_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml, "SafeLoader", None)
    (tmp_path / "x.yaml").write_text(r"a: 1  # \udc80")
    assert yaml_file.load(tmp_path / "x.yaml") == {"a": 1}


def test_anchors_that_stay_small_are_fine(tmp_path: Path) -> None:
    assert "b" in read(tmp_path, "a: &a [1, 2]\nb: *a\n").lines


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        yaml_file.read(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("number", ["9" * 5000, "1:" * 200_000 + "1", "0x" + "f" * 5000])
def test_a_number_of_thousands_of_digits_is_refused_at_once(number: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"seed: {number}\n")
    for take in (yaml_file.load, yaml_file.read):
        with pytest.raises(ConfigError, match=r"line 1: a number of [\d,]+ characters"):
            take(file)


@pytest.mark.parametrize("value", ["2026-13-45", "!!int ''", "!!timestamp x"])
def test_a_value_that_is_none_of_its_type_is_named(value: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"seed: {value}\n")
    with pytest.raises(ConfigError, match=r"config.yaml: invalid YAML"):
        yaml_file.load(file)
