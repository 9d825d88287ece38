"""The command ``trainer runs``: which runs it lists, in what order, and what it says of a mistake."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.helpers import told
from tests.runs_on_disk import write_run

Listed = Callable[..., tuple[int, str, str]]


def made(
    folder: str,
    words: Sequence[str] = (),
    state: str = "finished",
    started: str = "2026-07-01T10:00:00",
    monitor: str = "val/accuracy",
    best: float | None = 0.9,
    **config: Any,
) -> None:
    """A run of a hundred steps, as far as its state lets it come."""
    direction = "minimize" if monitor == "val/loss" else "maximize"
    found: dict[str, Any] = {"step": 90, "epoch": 3, monitor: best}
    summary: dict[str, Any] = {"state": state, "monitor": monitor, "direction": direction, "best": found}
    summary |= {"steps": 1100, "epochs": 3, "seconds": 12.345, monitor.replace("val/", "test/"): best and best - 0.01}
    summary |= {"reason": "the disk is full"} if state == "failed" else {}
    plain = {"seed": 0, "epochs": 20, "patience": None, "compile": False, "model": {"name": "cnn"}, **config}
    write_run(Path(folder), words, plain, None if state == "killed" else summary, started=started)


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Listed:
    """``listed("model=gru", …)`` in an empty folder: exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return functools.partial(told, capfd, "runs")


@pytest.fixture
def four(listed: Listed) -> Callable[..., str]:
    """``four("model=gru", …)``: the letters of the listed ones of four runs, a the oldest and d the newest."""
    adam = {"name": "adam", "lr": 0.001, "betas": [0.9, 0.999]}
    made("outputs/a", ["model=cnn"], best=0.8, started="2026-06-30T23:59:59", optimizer=adam)
    made("outputs/b", ["model=gru"], best=0.95, started="2026-07-01T08:00:00", model={"name": "gru"}, seed=1)
    made("outputs/c", ["model=gru", "seed=2"], "killed", started="2026-07-01T09:30:00", model={"name": "gru"}, seed=2)
    sgd = {"name": "sgd", "lr": 0.1}
    made("outputs/d", ["compile=true"], "failed", "2026-07-02T00:00:00", best=None, compile=True, optimizer=sgd)

    def run(*words: str) -> str:
        code, out, err = listed("--json", *words)
        assert (code, err) == (0, "")
        return "".join(Path(each["path"]).name for each in json.loads(out))

    return run


@pytest.mark.parametrize(
    ("words", "letters"),
    [
        ([], "dcba"),
        (["outputs"], "dcba"),
        (["outputs/c"], "c"),
        (["model=gru"], "cb"),
        (["model.name==gru"], "cb"),
        (["model!=gru"], "da"),
        (["model=gru", "state!=killed"], "b"),
        (["optimizer.lr=1e-3"], "a"),
        (["optimizer.lr!=1e-3"], "d"),  # those without an optimizer do not match
        (["optimizer.lr>=.001"], "da"),
        (["optimizer.lr<0.1"], "a"),
        (["optimizer.betas=[0.90,0.999]"], "a"),
        (["optimizer.betas=[9e-1, 999e-3]"], "a"),
        (["optimizer=sgd"], "d"),
        (["optimizer.lr=1e-1"], "d"),
        (["optimizer.lr=[1,"], ""),
        (["seed=false"], ""),
        (["compile=True"], "d"),
        (["compile=false"], "cba"),
        (["patience=null"], "dcba"),
        (["patience>1"], ""),
        (["val/accuracy>0.9"], "b"),
        (["val/accuracy<=0.95"], "ba"),
        (["test/accuracy<0.9"], "a"),
        (["best=.8"], "a"),
        (["state=finished"], "ba"),
        (["state=killed"], "c"),
        (["steps=1100"], "dba"),
        (["epochs=3"], "dba"),
        (["seconds>12", "seconds<12.4"], "dba"),
        (["started=2026-07-01"], "cb"),
        (["started>2026-07-01"], "d"),
        (["started>=2026-07-01 09"], "dc"),
        (["started<2026-07"], "a"),
        (["seed!=0", "model=gru", "outputs"], "cb"),
        (["seed=1.0"], "b"),
        (["--sort", "val/accuracy"], "badc"),
        (["--sort", "best", "--reverse"], "abdc"),
        (["--sort", "seed"], "dabc"),
        (["--sort", "seed", "--reverse"], "cbda"),
        (["--sort", "started"], "abcd"),
        (["--reverse"], "abcd"),
        (["--sort", "optimizer.lr"], "adcb"),
        (["--sort", "model"], "dacb"),
        (["--limit", "2"], "dc"),
        (["model=gru", "--limit", "1", "seed=1"], "b"),
    ],
)
def test_the_runs_that_are_meant_in_their_order(four: Callable[..., str], words: list[str], letters: str) -> None:
    assert four(*words) == letters


def test_a_loss_is_better_when_it_is_less(four: Callable[..., str]) -> None:
    for letter, loss in (("e", 0.5), ("f", 0.2)):
        made(f"losses/{letter}", monitor="val/loss", best=loss)
    assert four("losses", "--sort", "best") == "fe"
    assert four("losses", "--sort", "test/loss") == "fe"
    assert four("losses", "--sort", "val/loss", "--reverse") == "ef"


def test_seeds_too_large_for_a_float_differ(four: Callable[..., str]) -> None:
    made("seeds/x", seed=2**60)
    made("seeds/y", seed=2**60 + 1)
    assert four("seeds", f"seed={2**60}") == "x"


def test_the_table_tells_what_varies_and_how_good_it_is(four: Callable[..., str], listed: Listed) -> None:
    assert listed() == (
        0,
        "started           state     typed             best val/accuracy  test/accuracy  steps  seconds  run\n"
        "2026-07-02 00:00  failed    compile=true                                        1,100     12.3  outputs/d\n"
        "2026-07-01 09:30  killed    model=gru seed=2                                                    outputs/c\n"
        "2026-07-01 08:00  finished  model=gru                    0.9500         0.9400  1,100     12.3  outputs/b\n"
        "2026-06-30 23:59  finished  model=cnn                    0.8000         0.7900  1,100     12.3  outputs/a\n",
        "",
    )
    lines = listed("state=killed")[1].splitlines()  # of one run all words, and no columns with nothing in them
    assert [" ".join(line.split()) for line in lines] == [
        "started state typed run",
        "2026-07-01 09:30 killed model=gru seed=2 outputs/c",
    ]
    lines = listed("--limit", "3")[1].splitlines()
    assert len(lines) == 5
    assert lines[-1] == "… and 1 more"
    assert "more" not in listed("--limit", "4")[1]


def test_metrics_that_differ_are_named_in_the_cells(listed: Listed) -> None:
    made("outputs/a", best=0.98)
    made("outputs/b", monitor="val/loss", best=0.5)
    head, one, other = listed()[1].splitlines()
    assert head.split() == ["started", "state", "best", "test", "steps", "seconds", "run"]
    assert "val/loss 0.5000" in one
    assert "val/accuracy 0.9800  test/accuracy 0.9700" in other


def test_the_columns_are_those_that_are_wanted(four: Callable[..., str], listed: Listed) -> None:
    assert listed("--columns", "model, optimizer.lr,val/accuracy,patience")[1] == (
        "model  optimizer.lr  val/accuracy  patience  run\n"
        "cnn             0.1                    null  outputs/d\n"
        "gru                                    null  outputs/c\n"
        "gru                        0.9500      null  outputs/b\n"
        "cnn           0.001        0.8000      null  outputs/a\n"
    )


def test_json_holds_all_that_is_known(four: Callable[..., str], listed: Listed) -> None:
    (found,) = json.loads(listed("--json", "state=failed")[1])
    assert list(found) == [
        *("path", "state", "started", "words", "config", "metrics", "monitor"),
        *("direction", "best", "steps", "epochs", "seconds", "reason"),
    ]
    assert found["path"] == "outputs/d"
    assert found["started"] == "2026-07-02T00:00:00"
    assert found["config"]["model"] == "cnn"
    assert found["config"]["optimizer.lr"] == 0.1
    assert (found["best"], found["metrics"], found["reason"]) == (None, {}, "the disk is full")
    (found,) = json.loads(listed("--json", "state=killed")[1])
    assert (found["monitor"], found["direction"], found["steps"], found["words"]) == (
        *(None, None, None),
        ["model=gru", "seed=2"],
    )
    made("odd/x", best=float("nan"), dates=[float("inf")])
    (found,) = json.loads(listed("--json", "odd")[1], parse_constant=pytest.fail)
    assert found["config"]["dates"] == [None]


def test_no_run_is_no_mistake(listed: Listed, tmp_path: Path) -> None:
    assert listed() == (0, "no run under outputs\n", "")
    assert listed("model=gru") == (0, "no run under outputs\n", "")
    assert listed("--json") == (0, "[]\n", "")
    made("outputs/a")
    assert listed("model=gru", "seed=0") == (0, "no run under outputs with model=gru seed=0 (of 1)\n", "")
    assert listed("--json", "model=gru") == (0, "[]\n", "")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["modle=gru"], "modle=gru: no run under outputs has the key modle; did you mean model?"),
        (
            ["optimizer.lrr>1"],
            "optimizer.lrr>1: no run under outputs has the key optimizer.lrr; did you mean optimizer.lr",
        ),
        (["lr=1"], "lr=1: no run under outputs has the key lr; did you mean optimizer.lr?"),
        (["accuracy>0.5"], "accuracy>0.5: no run under outputs has the key accuracy; did you mean val/accuracy?"),
        (
            ["val/acuracy>0.5"],
            "val/acuracy>0.5: no run under outputs has the key val/acuracy; did you mean val/accuracy",
        ),
        (
            ["xyzzy=1"],
            "xyzzy=1: no run under outputs has the key xyzzy; keys: state, started, steps, epochs, seconds, ",
        ),
        (
            ["--sort", "tst/accuracy"],
            "--sort tst/accuracy: no run under outputs has the key tst/accuracy; did you mean test/",
        ),
        (["--columns", "model,sed"], "--columns sed: no run under outputs has the key sed; did you mean seed?"),
        (["--columns", ","], "--columns: must be keys such as model,optimizer.lr,best, got ,"),
        (["--limit", "0"], "--limit: must be a whole number of at least 1, got 0"),
        (["--limit", "-1"], "--limit: must be a whole number of at least 1, got -1"),
        (["--limit", "all"], "--limit: must be a whole number of at least 1, got all"),
        (
            ["state=finnished"],
            "state=finnished: must be one of finished, pruned, stopped, failed, running, killed, unreadable, got ",
        ),
        (["val/accuracy>high"], "val/accuracy>high: > needs a number, got high"),
        (["val/accuracy>"], "val/accuracy>: > needs a number, got nothing"),
        (["started>yesterday"], "started>yesterday: must be a date such as 2026-07-01T10:30"),
        (["=gru"], "=gru: no key; a condition is KEY=VALUE, such as model=gru"),
        (["output"], "output: no such folder; did you mean outputs?"),
        (["outputs/sweps"], "outputs/sweps: no such folder; did you mean outputs/sweeps?"),
        (["gru"], "gru: no such folder; a condition is KEY=VALUE, such as model=gru"),
        (["file"], "file: is not a folder"),
        (["outputs", "outputs"], "outputs outputs: more than one folder"),
        (["--sorted"], "unrecognized arguments: --sorted"),
    ],
)
def test_a_mistake_is_a_line_of_trainer(listed: Listed, words: list[str], line: str) -> None:
    made("outputs/sweeps/a", optimizer={"name": "adam", "lr": 0.1})
    Path("file").touch()
    code, out, err = listed(*words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(f"trainer: error: {line}")


def test_every_mistake_is_told(listed: Listed) -> None:
    code, _, err = listed("nowhere", "state=x", "best>y")
    assert code == 2
    assert [line.split()[2] for line in err.splitlines()] == ["state=x:", "best>y:", "nowhere:"]


def test_a_folder_may_be_called_like_a_condition(listed: Listed) -> None:
    made("outputs/lr=0.1")
    assert "outputs/lr=0.1" in listed("outputs/lr=0.1")[1]


def test_what_stands_in_a_run_cannot_move_the_cursor(listed: Listed) -> None:
    made("outputs/a", ["model=\x1b[2J"])
    assert "\x1b" not in listed()[1]


def test_damaged_runs_are_listed_as_far_as_they_go(listed: Listed) -> None:
    made("outputs/a")
    made("outputs/b")
    for name in ("config.yaml", "overrides.yaml", "environment.json", "summary.json"):
        Path("outputs/a", name).write_bytes(b"\xff[{")
    for words in ([], ["--json"], ["--sort", "seed"], ["seed=0"], ["state=unreadable"]):
        code, out, err = listed(*words)
        assert (code, err) == (0, "")
        assert ("outputs/a" in out) == (words != ["seed=0"])


def test_the_help_has_examples(listed: Listed) -> None:
    code, out, err = listed("--help")
    assert (code, err) == (0, "")
    assert "trainer runs model=gru 'val/accuracy>0.9'" in out


def test_neither_torch_nor_hydra_is_imported(listed: Listed) -> None:
    made("outputs/a")
    code = (
        "import sys; from trainer.__main__ import main; main(['runs', 'seed=0']);"
        "sys.exit(', '.join({'torch', 'hydra', 'omegaconf'} & set(sys.modules)) or 0)"
    )
    root = str(REPOSITORY)
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
