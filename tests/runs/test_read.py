"""Reading run directories: every state, which runs a name stands for, and damaged files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.runs_on_disk import write_run
from trainer.config import ConfigError
from trainer.runs.read import PointReader, as_number, find_runs, read_run, runs_named, trained_words, varied_keys

BEST = {"step": 5, "epoch": 1, "val/loss": 0.5, "val/accuracy": 0.75}
SUMMARY = {
    "state": "finished",
    "monitor": "val/accuracy",
    "direction": "maximize",
    "best": BEST,
    "steps": 7,
    "epochs": 2,
    "seconds": 1.5,
    "test/loss": 0.25,
    "test/accuracy": 0.625,
}


def made(folder: Path, summary: Any = SUMMARY, words: Sequence[str] = ("seed=1",), started: str = "2026-07-01") -> Path:
    """Write a run that began on a given day; a run without a summary was killed."""
    points = [{"step": 1, "epoch": 1, "train/loss": 2.0}, {"step": 2, "epoch": 1, "train/loss": 1.0, "val/loss": 0.5}]
    write_run(folder, list(words), {"seed": 1, "model": {"name": "gru", "hidden": 8}}, summary, points)
    (folder / "environment.json").write_text(json.dumps({"started": f"{started}T10:00:00"}))
    return folder


@pytest.mark.parametrize("state", ["finished", "pruned", "stopped", "failed"])
def test_a_run_stands_as_it_has_said_at_its_end(tmp_path: Path, state: str) -> None:
    assert read_run(made(tmp_path / "run", {"state": state})).state == state


@pytest.mark.parametrize("content", ["", '{"state": "fin', "[1]", "[" * 100_000], ids=["empty", "cut", "list", "deep"])
def test_a_run_whose_summary_is_damaged_is_called_so(tmp_path: Path, content: str) -> None:
    folder = made(tmp_path / "run")
    (folder / "summary.json").write_text(content)
    found = read_run(folder)
    assert found.state == "unreadable"
    assert found.summary["reason"].startswith("summary.json: ")


def test_a_run_without_an_end_is_running_while_it_holds_its_lock(tmp_path: Path) -> None:
    folder = made(tmp_path / "run", None)
    assert read_run(folder).state == "killed"
    with FileLock(folder / ".lock"):
        assert read_run(folder).state == "running"
    (folder / ".lock").touch()  # what a killed one leaves
    assert read_run(folder).state == "killed"


def test_a_run_tells_what_it_was_and_what_came_of_it(tmp_path: Path) -> None:
    run = read_run(made(tmp_path / "run", words=["seed=1", "run_dir=x", "+optimizer.lr=1"]))
    assert run.config == {"seed": 1, "model": "gru", "model.hidden": 8}
    assert run.words == ["seed=1", "+optimizer.lr=1"]
    assert (run.monitor, run.maximizes, run.best, run.score) == ("val/accuracy", True, 0.75, 0.75)
    assert run.metrics == {"val/loss": 0.5, "val/accuracy": 0.75, "test/loss": 0.25, "test/accuracy": 0.625}
    assert run.started == datetime(2026, 7, 1, 10)
    assert run.curve("train/loss") == [(1, 2.0), (2, 1.0)]
    assert run.curve("val/loss") == [(2, 0.5)]
    less = {"monitor": "val/loss", "best": BEST}
    for summary in ({**less, "direction": "minimize"}, less):
        run = read_run(made(tmp_path / "less", {"state": "finished", **summary}))
        assert (run.maximizes, run.best, run.score) == (False, 0.5, -0.5)
    run = read_run(made(tmp_path / "none", None))
    assert (run.monitor, run.best, run.score, run.metrics) == (None, None, float("-inf"), {})


def test_find_lists_the_newest_first_and_looks_into_no_run(tmp_path: Path) -> None:
    old = made(tmp_path / "a" / "old", started="2026-06-01")
    new = made(tmp_path / "b" / "deep" / "new", started="2026-07-03")
    same = [made(tmp_path / name) for name in ("x", "y")]
    made(old / "inside")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").touch()
    assert [run.path for run in find_runs(tmp_path)] == [new, same[1], same[0], old]
    assert [run.path for run in find_runs(old)] == [old]
    assert find_runs(tmp_path / "nowhere") == []


def test_times_of_two_zones_are_in_order(tmp_path: Path) -> None:
    made(tmp_path / "a", started="2026-07-01")
    aware = made(tmp_path / "b")
    (aware / "environment.json").write_text('{"started": "2026-07-03T10:00:00+02:00"}')
    assert [run.path.name for run in find_runs(tmp_path)] == ["b", "a"]
    assert read_run(aware).started.tzinfo is None


DEEP = "[" * 200_000
DAMAGED = {
    "config.yaml": [
        "",
        "\0",
        "a: [",
        "- a",
        "!!int ''",
        "a: !!timestamp x",
        "a: &a {b: *a}",
        "1: {2: 3}",
        "? [a]\n: b",
    ],
    "overrides.yaml": ["", "a: b", "[1, null, [a], seed=1", "- 1\n- {a: b}\n- seed=1", "!!bool maybe", "\x1b"],
    "environment.json": [
        "",
        "[]",
        '{"started": 3}',
        '{"started": "9999-12-31T23:59:59-12:00"}',
        '{"started": {}}',
        DEEP,
    ],
    "summary.json": [
        *("", "[]", "3", DEEP, '{"state": ["finished"]}', '{"state": "finished", "best": "no"}', '{"best": [1]}'),
        '{"state": "finished", "monitor": 3, "direction": []}',
        '{"state": "finished", "monitor": "val/loss", "best": {"val/loss": "low", "val/mae": null, "val/r2": true}}',
        '{"state": "finished", "monitor": "val/loss", "best": {"val/loss": 1' + "0" * 400 + "}}",
        '{"state": "finished", "monitor": "val/loss", "best": {"val/loss": NaN}, "steps": "x", "seconds": {}}',
    ],
    "metrics.jsonl": ["", "[1]\n{}\n3\n", '{"step": "x"}\n', f"{DEEP}\n", '{"step": 1, "train/loss": "x"}\n'],
}


@pytest.mark.parametrize(("name", "at"), [(name, at) for name, texts in DAMAGED.items() for at in range(len(texts))])
def test_damaged_files_count_as_not_there(tmp_path: Path, name: str, at: int) -> None:
    folder = made(tmp_path / "run")
    (folder / name).write_text(DAMAGED[name][at])
    (run,) = find_runs(tmp_path)
    assert run.state in ("finished", "killed", "unreadable")
    assert all(isinstance(word, str) for word in run.words)
    assert isinstance(run.config, dict)
    assert isinstance(run.score, float)
    assert isinstance(run.started, datetime)
    assert all(as_number(value) is not None for value in run.metrics.values())
    assert all(isinstance(value, float) for _, value in run.curve("train/loss"))


@pytest.mark.parametrize("name", list(DAMAGED))
def test_files_that_are_no_text_or_folders_count_as_not_there(tmp_path: Path, name: str) -> None:
    folder = made(tmp_path / "run")
    (folder / name).write_bytes(b"\xff\xfe\x00\x80")
    (run,) = find_runs(tmp_path)
    assert (run.config, run.points(), run.best) is not None
    (folder / name).unlink()
    (folder / name).mkdir()
    for run in find_runs(tmp_path):
        assert (run.config, run.points(), run.best) is not None


def test_half_a_line_is_left_out_until_it_is_whole(tmp_path: Path) -> None:
    file = made(tmp_path / "run") / "metrics.jsonl"
    reader = PointReader(tmp_path / "run")
    with file.open("a") as stream:
        stream.write('{"step": 3, "train/')
    assert [point["step"] for point in reader.read_new()] == [1, 2]
    assert [point["step"] for point in read_run(tmp_path / "run").points()] == [1, 2]
    with file.open("a") as stream:
        stream.write('loss": 0.5}\n')
    assert reader.read_new() == [{"step": 3, "train/loss": 0.5}]
    assert reader.read_new() == []
    file.write_text('{"step": 1}\n')  # a run that goes on from its checkpoint
    assert reader.read_new() == [{"step": 1}]
    assert PointReader(tmp_path / "nowhere").read_new() == []


def test_a_name_is_a_run_a_folder_of_runs_or_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^last: no run under outputs$"):
        runs_named(["last"])
    sweep = Path("outputs/sweep")
    made(sweep / "0", started="2026-07-01")
    made(sweep / "1", started="2026-07-02")
    made(Path("elsewhere/a"), started="2026-07-03")
    assert [str(run.path) for run in runs_named(["last"])] == ["outputs/sweep/1"]
    assert [str(run.path) for run in runs_named(["elsewhere/a", "outputs/sweep"])] == [
        *("elsewhere/a", "outputs/sweep/1", "outputs/sweep/0"),
    ]
    assert len(runs_named(["last", "outputs/sweep/1", str(sweep.resolve())])) == 2  # each run once
    with pytest.raises(ConfigError, match=r"^qqqq: no such folder$"):
        runs_named(["last", "qqqq"])
    Path("empty").mkdir()
    with pytest.raises(ConfigError, match=r"^empty: no run in it$"):
        runs_named(["empty"])


def test_the_words_that_vary_are_in_the_order_in_which_they_were_typed() -> None:
    assert varied_keys([["model=gru", "seed=0", "lr=1"], ["lr=1", "model=gru", "seed=1"]]) == ["seed"]
    assert varied_keys([["b=1", "a=1"], ["a=2", "c=3"]]) == ["b", "a", "c"]
    assert varied_keys([["+a=1"], ["a=1"]]) == []
    assert varied_keys([["a=1", "a=2"], ["a=2"]]) == []  # the last one counts
    assert varied_keys([["a=1"]]) == varied_keys([]) == []


@pytest.mark.parametrize(
    "word",
    [
        *("run_dir=x", "resume=last", "sweep_dir=y", "sweep.parallel=2", "dry_run=true", "hydra.job.name=x"),
        *("hydra/launcher=joblib", "+hydra.verbose=true", "~sweep"),
    ],
)
def test_words_of_the_command_are_not_trained(word: str) -> None:
    assert trained_words(["model=gru", word, "~scheduler", "resumed=1"]) == [
        "model=gru",
        "~scheduler",
        "resumed=1",
    ]


def test_files_that_would_block_or_fill_the_memory_are_treated_as_missing(tmp_path: Path) -> None:
    bomb = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    folder = write_run(tmp_path / "run", ["model=cnn"], summary=SUMMARY)
    (folder / "config.yaml").write_text(bomb)
    for name in ("summary.json", "environment.json", "metrics.jsonl", "overrides.yaml"):
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)
    (found,) = find_runs(tmp_path)
    assert (found.config, found.state, found.points(), [*found.words]) == ({}, "unreadable", [], [])
    assert found.summary["reason"] == "summary.json: is a named pipe, not a file"


def test_a_line_of_metrics_that_is_too_long_or_no_step_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path / "run", [])
    lines = ['{"step": 1}', '{"step": 2, "x": "' + "x" * 3_000_000 + '"}', f'{{"step": {"9" * 4000}}}', '{"step": 3}']
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert [point["step"] for point in PointReader(folder).read_new()] == [1, 3]
    monkeypatch.setattr("trainer.config.untrusted_files.UNCHECKED", 0)
    monkeypatch.setattr("trainer.config.untrusted_files.free_memory", lambda: 1_000_000)
    with pytest.raises(ConfigError, match=r"metrics.jsonl: needs about 72.* MB of memory, 1 MB are free"):
        PointReader(folder).read_new()


@pytest.mark.parametrize(
    ("name", "suggestion"), [("lats", "; did you mean last?"), ("outptus", "; did you mean outputs?"), ("qqqqqq", "")]
)
def test_a_run_that_does_not_exist_is_refused_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, suggestion: str
) -> None:
    (tmp_path / "outputs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as refused:
        runs_named([name])
    assert refused.value.problems == (f"{name}: no such folder{suggestion}",)


def test_a_run_that_may_not_be_read_is_not_called_missing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0)
    child = os.fork()
    if child == 0:
        os.environ.pop("COVERAGE_PROCESS_START", None)
        code = 1
        with contextlib.suppress(BaseException):
            if os.geteuid() == 0:  # root may read everything
                tmp_path.chmod(0o755)
                os.chdir(tmp_path)
                os.setuid(65534)
            else:
                os.chdir(tmp_path)
            try:
                runs_named(["run"])
            except ConfigError as error:
                code = 0 if str(error) == "run: Permission denied" else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
