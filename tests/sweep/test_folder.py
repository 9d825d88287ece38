"""The folder of a sweep: which run a job finds again, the names of run directories, and going on with a sweep."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from trainer import compose
from trainer.compose.read_word import text_of
from trainer.compose.safety import is_data
from trainer.config import ConfigError, Job
from trainer.runs import resume
from trainer.runs.resume import with_earlier_sweep_words
from trainer.sweep.folder import finished_run, name_of, place_jobs


@functools.cache
def composed(*words: str) -> Job:
    return compose(*words)


def stand(folder: Path, name: str, *words: str, state: str = "finished") -> None:
    """Write the files of a run directory that a sweep reads."""
    (folder / name).mkdir(parents=True)
    config = composed(*words).settings.replace(run_dir=str(folder / name)).to_dict()
    (folder / name / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / name / "overrides.yaml").write_text(yaml.safe_dump(list(words)))
    (folder / name / "summary.json").write_text(json.dumps({"state": state}))


def names(folder: Path, *jobs: Sequence[str], subdir: str | None = None) -> list[str]:
    """Return the names of the run directories of jobs."""
    found = place_jobs([composed(*words) for words in jobs], folder, subdir)
    assert [job.number for job in found] == [*range(len(jobs))]
    assert all(job.folder.parent == folder for job in found)
    return [job.folder.name for job in found]


def test_a_run_is_known_again_by_what_it_learns_wherever_it_stands_in_the_sweep(tmp_path: Path) -> None:
    stand(tmp_path, "0-seed=1", "seed=1")
    stand(tmp_path, "1-seed=2", "seed=2", "device=cpu")
    assert names(tmp_path, ["seed=2"], ["seed=0"], ["seed=1"]) == ["1-seed=2", "2-seed=0", "0-seed=1"]


@pytest.mark.parametrize("key", ["checkpoint.keep", "epochs", "logger.tensorboard.images", "log_every", "accumulate"])
def test_what_varies_tells_runs_apart_also_where_a_run_could_go_on_with_another_value(tmp_path: Path, key: str) -> None:
    one, other = f"{key}=2", f"{key}=1"
    stand(tmp_path, "0-a", one)
    stand(tmp_path, "1-b", other)
    assert names(tmp_path, [one], [other]) == ["0-a", "1-b"]
    assert names(tmp_path, [other], [one]) == ["1-b", "0-a"]


def test_what_recipes_set_tells_runs_apart_too(tmp_path: Path) -> None:
    recipes = tmp_path / "my" / "experiment"
    recipes.mkdir(parents=True)
    for number in (1, 2, 3):
        (recipes / f"e{number}.yaml").write_text(f"# @package _global_\nepochs: {number}\n")
    jobs = {name: compose(f"experiment={name}", config_dir=tmp_path / "my") for name in ("e1", "e2", "e3")}
    folder = tmp_path / "s"
    for name in ("e1", "e2"):
        stand(folder, name, f"epochs={jobs[name].settings.epochs}")

    def found(*chosen: str) -> list[str]:
        return [job.folder.name for job in place_jobs([jobs[name] for name in chosen], folder)]

    assert found("e2", "e1", "e3") == ["e2", "e1", "2-experiment=e3"]
    assert found("e2") == ["e2"]  # nothing varies in a single job
    assert found("e3") == ["0"]  # two runs fit, so neither is claimed


def test_one_run_may_become_longer_and_is_done_again_only_then(tmp_path: Path) -> None:
    stand(tmp_path, "0-seed=1", "seed=1", "epochs=5")
    (same,) = place_jobs([compose("seed=1", "epochs=5")], tmp_path)
    (longer,) = place_jobs([compose("seed=1", "epochs=9")], tmp_path)
    assert same.folder == longer.folder == tmp_path / "0-seed=1"
    assert finished_run(same) is not None and finished_run(longer) is None
    (other,) = place_jobs([compose("seed=2", "epochs=5")], tmp_path)
    theirs = replace(other, job=other.job.replace(run_dir=str(tmp_path / "0-seed=1")))
    assert finished_run(theirs) is None


def test_what_is_typed_twice_has_two_folders_and_a_name_of_ones_own_is_never_taken(tmp_path: Path) -> None:
    twins = [["seed=0"], ["seed=0"]]
    assert names(tmp_path, *twins) == ["0", "1"]
    for name in ("0", "1"):
        stand(tmp_path, name, "seed=0")
    assert names(tmp_path, *twins) == ["0", "1"]
    stand(tmp_path, "run_0", "seed=7")
    assert names(tmp_path, ["seed=8"], ["seed=7"], subdir="run_{number}") == ["run_2", "run_0"]
    (tmp_path / "3-seed=9").mkdir()  # the command was killed before it wrote a config
    assert names(tmp_path, *(["seed=7"], ["seed=0"], ["seed=0"], ["seed=9"]))[-1] == "3-seed=9"


def test_the_run_of_another_version_is_known_by_the_keys_that_both_have(tmp_path: Path) -> None:
    stand(tmp_path, "0-seed=1", "seed=1")
    path = tmp_path / "0-seed=1" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    del config["clip_norm"]
    path.write_text(yaml.safe_dump({**config, "of_another_version": 1}))
    assert names(tmp_path, ["seed=1"], ["seed=2"]) == ["0-seed=1", "1-seed=2"]


def test_the_name_of_a_run_says_what_varies_in_letters_that_no_shell_minds() -> None:
    words = ("model.channels=[8,16]", "optimizer.lr=1e-3", "dataset.path='a b/$c'", "seed=1")
    name = name_of(3, 2, ["model.channels", "optimizer.lr", "dataset.path", "seed"], words)
    assert name == "03-channels=8_16-lr=1e-3-path=a_b_c-seed=1"
    assert re.fullmatch(r"[\w.=+-]+", name)
    assert (
        name_of(0, 1, ["model.width", "loss.width"], ("model.width=1", "loss.width=2"))
        == "0-model.width=1-loss.width=2"
    )
    assert len(name_of(0, 1, ["a"], ("a=" + "x" * 400,)).encode()) <= 100
    assert len(name_of(0, 1, ["a"], ("a=" + "\u4e2d" * 400,)).encode()) <= 100


def test_the_words_of_a_sweep_come_before_those_typed_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s").mkdir()
    words = ["seed=0,1", "epochs=3", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4"]
    (tmp_path / "s" / "overrides.yaml").write_text(json.dumps(words))
    assert with_earlier_sweep_words(["sweep=s", "epochs=4"], text_of, is_data) == [
        "seed=0,1", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "epochs=4", "sweep_dir=s",
    ]  # fmt: skip
    (tmp_path / "s" / "overrides.yaml").write_text('["seed=0,1", "plugins=[mine.py]"]')
    with pytest.raises(ConfigError, match="if you trust them, name them again"):
        with_earlier_sweep_words(["sweep=s"], text_of, is_data)


def test_a_sweep_goes_on_in_its_own_folder_whatever_stands_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jörg").mkdir()
    words = ["hydra.sweep.dir=elsewhere", "sweep_dir=elsewhere", "hydra.mode=RUN", "seed=0,1"]
    (tmp_path / "jörg" / "overrides.yaml").write_text(json.dumps(words))
    assert with_earlier_sweep_words(["sweep=jörg"], text_of, is_data) == ["seed=0,1", 'sweep_dir="jörg"']
    (tmp_path / "jörg" / "logs").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="a link out of the folder; a sweep writes only inside"):
        names(tmp_path / "jörg", ["seed=0"])


@pytest.mark.parametrize(
    "word",
    [
        "hydra.sweeper.storage=/elsewhere/.bashrc", "hydra.launcher.additional_parameters={wrap: rm}", "run_dir=a,b",
        "+hydra.launcher.setup=[rm]", "hydra.searchpath=[file://elsewhere]", "hydra.sweeper.study_name=x",
    ],
)  # fmt: skip
def test_what_could_lead_elsewhere_is_typed_again_and_not_taken_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "overrides.yaml").write_text(json.dumps(["seed=0,1", word]))
    assert resume.read_overrides(tmp_path / "s") == ["seed=0,1", word]
    with pytest.raises(ConfigError, match="if you trust it, type that again") as caught:
        with_earlier_sweep_words(["sweep=s"], text_of, is_data)
    assert word in str(caught.value)
    assert with_earlier_sweep_words(["sweep=s", word], text_of, is_data) == ["seed=0,1", word, "sweep_dir=s"]
