"""Searches: the values that Optuna proposes, pruning, retries, and going on after a kill."""

from __future__ import annotations

import csv
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

optuna = pytest.importorskip("optuna")

from tests.shell import TRAIN, run, started  # noqa: E402
from tests.sweep.test_drive import rows  # noqa: E402
from trainer import compose  # noqa: E402
from trainer.config import ConfigError  # noqa: E402
from trainer.config.search_keys import SearchKeys  # noqa: E402
from trainer.processes.signals import REASONS  # noqa: E402
from trainer.runs.read import find_runs, is_run, read_run  # noqa: E402
from trainer.sweep.drive import Outcome, SweepJob  # noqa: E402
from trainer.sweep.optuna_search import OptunaSearch, default_monitor  # noqa: E402
from trainer.sweep.search_space import Choice, Interval  # noqa: E402

SEARCH = ("hydra/sweeper=optuna", "logger=none", "epochs=4", "hydra.sweeper.startup_trials=3")
SPACE = ("optimizer.lr=tag(log,interval(1e-5,1))", "model.hidden=int(interval(8,64))", "model.norm=none,batch")


def search(folder: Path, *words: str, code: int = 0) -> tuple[str, str]:
    ended, out, errors = run([*TRAIN, "-m", "sweep_dir=s", *SEARCH, *words], folder)
    assert ended == code, errors
    return out, errors


def study(folder: Path) -> Any:
    """Return the study of a search."""
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "s" / "study.log"))
    return optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(backend))


def params(folder: Path) -> list[tuple[str, ...]]:
    return [(row["optimizer.lr"], row["model.hidden"], row["model.norm"], row["state"]) for row in rows(folder)]


def test_a_search_tries_values_from_its_space_and_stops_what_is_worse(tmp_path: Path) -> None:
    out, _ = search(tmp_path, *SPACE, "hydra.sweeper.n_trials=9")
    tried = params(tmp_path)
    assert len(tried) == 9
    for rate, hidden, norm, _ in tried:
        assert 1e-5 <= float(rate) <= 1
        assert 8 <= int(hidden) <= 64
        assert norm in ("none", "batch")
    states = [trial.state.name for trial in study(tmp_path).trials]
    pruned = [state for *_, state in tried].count("pruned")
    assert 0 < pruned <= states.count("PRUNED")  # a run may finish before it receives the request to stop
    assert f"{9 - pruned} finished, {pruned} pruned" in out
    for row, trial in zip(rows(tmp_path), study(tmp_path).trials, strict=True):
        assert float(row["optimizer.lr"]) == pytest.approx(trial.params["optimizer.lr"], rel=1e-5)
        summary = read_run(tmp_path / "s" / row["folder"]).summary
        if row["state"] == "finished":
            assert trial.value == summary["best"]["val/accuracy"]
        else:
            assert summary["reason"] == "the median pruner stopped it"
            assert row["test/accuracy"] == "" or summary["state"] == "pruned"


@pytest.mark.slow
def test_the_same_search_proposes_the_same_and_goes_on_to_more(tmp_path: Path) -> None:
    few = ["hydra.sweeper.pruner=none", "epochs=1", "limit_batches=4"]
    search(tmp_path, *SPACE, *few, "hydra.sweeper.n_trials=6")
    whole = params(tmp_path)
    (tmp_path / "parts").mkdir()
    search(tmp_path / "parts", *SPACE, *few, "hydra.sweeper.n_trials=4")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts" / "s").glob("*/summary.json")}
    code, out, errors = run([*TRAIN, "sweep=s", "hydra.sweeper.n_trials=6"], tmp_path / "parts")
    assert (code, errors) == (0, "")
    assert params(tmp_path / "parts") == whole
    assert "6/6" in out and "4/6" not in out
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_with_the_trial_under_way(tmp_path: Path) -> None:
    words = [*SPACE[:2], "hydra.sweeper.pruner=none", "hydra.sweeper.n_trials=4", "epochs=30"]
    command = [*TRAIN, "-m", "sweep_dir=s", *SEARCH, *words]
    with started(command, tmp_path) as processes:
        processes.until(lambda: list((tmp_path / "s").glob("1-*/checkpoints/last.pt")))
        processes.command.kill()
        assert processes.finish(30)[0] == -signal.SIGKILL
        processes.until_none_is_left(10)
    assert [trial.state.name for trial in study(tmp_path).trials] == ["COMPLETE", "RUNNING"]
    code, _, errors = run(command, tmp_path)
    assert (code, errors) == (0, "")
    assert [trial.state.name for trial in study(tmp_path).trials] == ["COMPLETE"] * 4
    assert [row["state"] for row in rows(tmp_path)] == ["finished"] * 4
    (resumed,) = (tmp_path / "s" / "logs").glob("1-*")
    assert "resume   after step" in resumed.read_text()


@pytest.mark.slow
def test_a_recipe_holds_a_search_and_the_best_is_repeated_with_it(tmp_path: Path) -> None:
    (tmp_path / "my" / "experiment").mkdir(parents=True)
    (tmp_path / "my" / "experiment" / "search.yaml").write_text("""\
# @package _global_
defaults:
  - override /hydra/sweeper: optuna

epochs: 1
limit_batches: 3
hydra:
  sweeper:
    n_trials: 2
    params:
      optimizer.lr: tag(log,interval(1e-4,1e-1))
""")
    words = ["--config-dir", "my", "experiment=search", "logger=none"]
    code, out, errors = run([*TRAIN, "-m", "sweep_dir=s", *words], tmp_path)
    assert (code, errors) == (0, "")
    assert "2 finished" in out
    (again,) = re.findall(r"^again    train (.+)$", out, flags=re.MULTILINE)
    code, _, errors = run([*TRAIN, *again.split(), "run_dir=again"], tmp_path)
    assert (code, errors) == (0, "")
    best = max(find_runs(tmp_path / "s"), key=lambda each: each.score)
    assert read_run(tmp_path / "again").metrics == best.metrics


@pytest.mark.slow
def test_several_objectives_have_a_front_and_machines_share_a_storage(tmp_path: Path) -> None:
    both = "hydra.sweeper.objectives={val/accuracy: maximize, steps: minimize}"
    words = [*SPACE[:1], both, "hydra.sweeper.sampler=nsga2", "hydra.sweeper.storage=shared.log", "limit_batches=4"]
    out, _ = search(tmp_path, *words, "hydra.sweeper.n_trials=2")
    assert "front    " in out
    code, _, errors = run(
        [*TRAIN, "-m", "sweep_dir=other", *SEARCH, *words, "hydra.sweeper.n_trials=5", "sweep.parallel=2"], tmp_path
    )
    assert (code, errors) == (0, "")
    assert sorted(path.name.partition("-")[0] for path in (tmp_path / "other").iterdir() if is_run(path)) == [
        "2", "3", "4",
    ]  # fmt: skip
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "shared.log"))
    shared = optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(backend))
    assert [len(trial.values) for trial in shared.trials] == [2] * 5


@pytest.mark.slow
def test_a_trial_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    words = ["model.channels=[8,8,8,8],[8]", "hydra.sweeper.n_trials=3", "epochs=1", "limit_batches=3"]
    out, errors = search(tmp_path, *words, code=2)
    assert "model.channels: 4 blocks halve the size 4 times" in errors
    assert "refused" in out
    first = [(trial.params["model.channels"], trial.state.name) for trial in study(tmp_path).trials]
    assert {*first} == {("[8,8,8,8]", "FAIL"), ("[8]", "COMPLETE")}
    names = [row["folder"] for row in rows(tmp_path)]
    _, errors = search(tmp_path, *words, code=2)
    failed = [each for each in first if each[1] == "FAIL"]
    assert errors.count("4 blocks halve the size") == len(failed)
    assert [(trial.params["model.channels"], trial.state.name) for trial in study(tmp_path).trials] == first + failed
    assert [row["folder"] for row in rows(tmp_path)] == names


@pytest.mark.slow
def test_a_search_goes_on_with_more_trials_and_as_no_other(tmp_path: Path) -> None:
    words = [*SPACE[:1], "epochs=1", "limit_batches=3", "monitor=val/loss"]
    search(tmp_path, *words, "hydra.sweeper.n_trials=2")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("*/*")}
    for other, line in {
        "monitor=val/accuracy": 'hydra.sweeper.objectives: are {"val/loss": "minimize"} and not {"val/accuracy": "maxi',
        "hydra.sweeper.objectives={val/loss: minimize, seconds: minimize}": "hydra.sweeper.objectives: are ",
        "batch_size=8": "batch_size: is 64 and not 8 in the search of s/study.log; another search needs another sweep_",
        "epochs=2": "epochs: is 1 and not 2 in the search of s/study.log",
        "model=gru": "model: is cnn and not gru in the search of s/study.log",
        "optimizer.lr=interval(1e-5,1)": "optimizer.lr: has tag(log,interval(1e-05,1.0)) and not interval(1e-05,1.0) ",
        "scheduler=cosine": "scheduler: is constant and not cosine in the search of s/study.log",
        "model.hidden=8,16": "model.hidden: has one value and not 8,16 in the search of s/study.log",
    }.items():
        _, errors = search(tmp_path, *words, other, code=2)
        assert errors.startswith(f"train: error: {line}"), errors
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "s").glob("*/*")} == before
    (tmp_path / "s").rename(tmp_path / "moved")
    code, _, errors = run([*TRAIN, "sweep=moved", "hydra.sweeper.n_trials=11", "log_every=7"], tmp_path)
    assert (code, errors) == (0, "")
    with (tmp_path / "moved" / "summary.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["state"] for row in table] == ["finished"] * 11
    assert [row["folder"].partition("-")[0] for row in table] == [
        "0", "1", "02", "03", "04", "05", "06", "07", "08", "09", "10",
    ]  # fmt: skip


def trials(folder: Path, *words: str, **keys: Any) -> OptunaSearch:
    space = {"optimizer.lr": Interval(0.1, 1.0)}
    return OptunaSearch(
        space, words, compose(*words).settings, folder, lambda typed: compose(*typed), subdir=None, can_stop=True,
        keys=SearchKeys(**keys),
    )  # fmt: skip


def finished(value: float, **more: Any) -> Outcome:
    best = {"step": 1, "epoch": 1, "val/accuracy": value}
    summary = {
        "state": "finished",
        "monitor": "val/accuracy",
        "direction": "maximize",
        "best": best,
        "steps": 3,
        **more,
    }
    return Outcome("finished", summary=summary)


def leave(job: SweepJob, *values: float) -> None:
    """Write a run directory with one evaluation for each value."""
    job.folder.mkdir(exist_ok=True)
    points = [{"step": at, "epoch": at, "val/accuracy": value} for at, value in enumerate(values, 1)]
    (job.folder / "metrics.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))


def test_a_run_whose_metric_is_no_number_ends_no_search(tmp_path: Path) -> None:
    found = trials(tmp_path, n_trials=3)
    for value in (float("nan"), 0.5):
        job = found.next_job()
        assert job is not None
        assert found.record(job, finished(value)).state == "finished"
    assert [trial.state.name for trial in found._study.trials] == ["FAIL", "COMPLETE"]


def test_what_max_time_has_ended_counts_with_what_came_of_it(tmp_path: Path) -> None:
    found = trials(tmp_path, n_trials=3)
    for best in ({"val/accuracy": 0.25}, {}):
        job = found.next_job()
        assert job is not None
        leave(job)
        (job.folder / "summary.json").write_text(json.dumps({"state": "stopped", "best": best}))
        outcome = Outcome("stopped", (), 143, {"reason": REASONS[signal.SIGALRM]})
        assert outcome.out_of_time and found.record(job, outcome) == outcome._replace(code=0)
    assert [(trial.state.name, trial.values) for trial in found._study.trials] == [("COMPLETE", [0.25]), ("FAIL", None)]


def test_a_run_that_was_faster_than_the_pruner_stays_finished(tmp_path: Path) -> None:
    found = trials(tmp_path, "epochs=4", n_trials=9, startup_trials=0)
    for _ in range(6):
        job = found.next_job()
        assert job is not None
        leave(job, 0.5, 0.6, 0.7, 0.8)
        found.record(job, finished(0.8))
    for values, state in (((0.5, 0.1, 0.1, 0.9), "PRUNED"), ((0.5, 0.6, 0.7, 0.1), "COMPLETE")):
        job = found.next_job()
        assert job is not None
        leave(job, *values)
        outcome = finished(max(values))
        assert found.record(job, outcome) == outcome
        assert found._study.trials[-1].state.name == state
    job = found.next_job()
    assert job is not None
    leave(job, 0.5, 0.1)
    assert found.should_prune(job)
    pruned = found.record(job, Outcome("stopped", (), 143, {"reason": REASONS[signal.SIGTERM]}))
    assert (pruned.state, pruned.code, pruned.summary["reason"]) == ("pruned", 0, "the median pruner stopped it")
    assert "pruned: the median pruner stopped it" in (job.folder / "train.log").read_text()


@pytest.mark.parametrize(
    ("name", "rate"), [("../elsewhere", 0.5), ("/elsewhere", 0.5), ("0", 7.0), ("0", "../../evil"), (["0"], 0.5)]
)
def test_a_study_of_a_stranger_leads_nowhere_else(tmp_path: Path, name: Any, rate: Any) -> None:
    first = trials(tmp_path, n_trials=2)
    distributions = optuna.distributions
    kind = (
        distributions.FloatDistribution(0, 9)
        if isinstance(rate, float)
        else distributions.CategoricalDistribution([rate])
    )
    first._study.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params={"optimizer.lr": rate},
            distributions={"optimizer.lr": kind},
            user_attrs={"folder": name, "sweep": "here"},
        )
    )
    with pytest.raises(ConfigError, match="trial 0 of the study does not belong to this search"):
        trials(tmp_path, n_trials=2)


def test_what_is_typed_for_a_component_that_is_searched_stays(tmp_path: Path) -> None:
    space = {"model": Choice(("cnn", "gru"))}

    def found(*words: str) -> OptunaSearch:
        return OptunaSearch(
            space, words, compose(*words).settings, tmp_path, lambda typed: compose(*typed), subdir=None, can_stop=True,
            keys=SearchKeys(),
        )  # fmt: skip

    found("model.dropout=0.5")
    found("model.dropout=0.5", "log_every=3")
    with pytest.raises(ConfigError, match=r"model\.dropout: is 0\.5 and not left out in the search of"):
        found()


def test_a_command_that_was_killed_before_it_told_tells_it_now(tmp_path: Path) -> None:
    first = trials(tmp_path, n_trials=2)
    job = first.next_job()
    assert job is not None
    leave(job)
    (job.folder / "config.yaml").write_text(yaml.safe_dump(job.settings.to_dict()))
    (job.folder / "overrides.yaml").write_text("[]")
    (job.folder / "summary.json").write_text(json.dumps(dict(finished(0.75).summary)))
    again = trials(tmp_path, n_trials=2)
    assert [(trial.state.name, trial.values) for trial in again._study.trials] == [("COMPLETE", [0.75])]
    assert [each.folder for each in again.jobs] == [job.folder]
    following = again.next_job()
    assert following is not None and following.folder != job.folder


@pytest.mark.slow
def test_a_trial_that_was_killed_while_it_was_proposed_is_proposed_again(tmp_path: Path) -> None:
    words = [*SPACE[:1], "hydra.sweeper.pruner=none", "epochs=1", "limit_batches=3"]
    search(tmp_path, *words, "hydra.sweeper.n_trials=1")
    study(tmp_path).ask()  # a command that is killed at this point leaves a trial without a folder
    (tmp_path / "s" / "study.log.lock").symlink_to(tmp_path / "s" / "study.log")  # and its lock
    search(tmp_path, *words, "hydra.sweeper.n_trials=2")
    assert [trial.state.name for trial in study(tmp_path).trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert [row["state"] for row in rows(tmp_path)] == ["finished"] * 2


@pytest.mark.slow
def test_an_objective_that_no_run_has_is_named(tmp_path: Path) -> None:
    words = [
        *SPACE[:1],
        "hydra.sweeper.objectives={val/f2: maximize, steps: minimize}",
        "hydra.sweeper.n_trials=1",
        "epochs=1",
    ]
    _, errors = search(tmp_path, *words, code=2)
    assert "hydra.sweeper.objectives: val/f2: no run has it; a run has val/loss, val/accuracy, " in errors


def test_what_a_search_compares_is_what_a_run_would() -> None:
    assert default_monitor(compose().settings) == ("val/accuracy", "maximize")
    assert default_monitor(compose("monitor=val/loss").settings) == ("val/loss", "minimize")
    assert default_monitor(compose("metrics=[f1]").settings) == ("val/f1", "maximize")
    assert default_monitor(compose("loss=mse").settings) == ("val/loss", "minimize")
