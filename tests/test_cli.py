"""The command: exit codes, one line for each mistake, and no torch before it is needed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Train
from tests.shell import TRAIN


def test_data_that_is_not_there_and_cannot_be_downloaded_leaves_no_folder(train: Train) -> None:
    result = train("dataset=mnist", "dataset.root=nowhere")
    if result.code == 0:
        pytest.skip("there is a network: MNIST was downloaded")
    assert result.code == 2
    (only,) = result.err.splitlines()
    assert only.startswith(
        "train: error: dataset.root: no whole mnist data in nowhere/MNIST/raw, and the download failed"
    )
    assert list(result.folder.iterdir()) == []


def test_hydra_full_error_brings_the_stack_back(tmp_path: Path) -> None:
    command = [*TRAIN, "epochs=0"]
    environment = {"HYDRA_FULL_ERROR": "1", "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_a_sweep_makes_a_run_directory_for_each_job_and_goes_on_after_a_failed_one(train: Train) -> None:
    result = train("--multirun", "model.channels=[8,8,8,8],[8]", "seed=0,1", "max_steps=2", "logger=none")
    assert result.code == 2
    assert result.err.count("model.channels: 4 blocks halve the size 4 times") == 2
    assert [path.name for path in result.run_dirs] == ["2-channels=8-seed=0", "3-channels=8-seed=1"]
    assert all((path / "summary.json").is_file() for path in result.run_dirs)


@pytest.mark.slow
def test_sweeper_and_launcher_can_be_chosen(train: Train) -> None:
    words = ("hydra/sweeper=basic", "hydra/launcher=basic", "hydra.sweeper.max_batch_size=1")
    result = train("--multirun", *words, "seed=0,1", "epochs=1", "logger=none")
    assert result.code == 0, result.err
    assert len(result.run_dirs) == 2


def test_the_users_own_config_dir_adds_options(train: Train, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "small.yaml").write_text("defaults: [cnn]\nchannels: [4, 8]\nhidden: 16\n")
    result = train("--config-dir", str(tmp_path / "mine"), "model=small", "max_steps=2", "logger=none")
    assert result.code == 0, result.err
    assert "2,0" in result.out or "parameters" in result.out
    assert (result.run_dir / "config.yaml").read_text().count("hidden: 16") == 1


def test_early_stopping_says_so(train: Train) -> None:
    result = train("logger=none", "optimizer=sgd", "optimizer.lr=1e-30", "patience=2", "epochs=50")
    assert "stopped  no better val/accuracy in 2 evaluations" in result.out


@pytest.mark.slow
def test_a_dry_run_of_a_sweep_keeps_nothing(train: Train) -> None:
    result = train("--multirun", "seed=0,1", "dry_run=true", "logger=none")
    assert result.code == 0, result.err
    assert "runs" not in result.out
    assert result.out.splitlines()[-1].endswith("nothing is kept")
    assert list(result.folder.iterdir()) == []


def test_the_folders_of_hydra_searchpath_and_config_path_serve(train: Train, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "small.yaml").write_text("defaults: [cnn]\nhidden: 16\n")
    assert train(f"hydra.searchpath=[{tmp_path}/mine]", "model=small", "dry_run=true").code == 0
    shutil.copytree(REPOSITORY / "configs", tmp_path / "conf")
    (tmp_path / "conf" / "model" / "tiny.yaml").write_text("defaults: [cnn]\nhidden: 4\n")
    result = train("--config-path", "../conf", "model=tiny", "--cfg", "job", "--package", "model")
    assert (result.code, result.err) == (0, "")
    assert "hidden: 4" in result.out


def test_a_terminal_without_the_letters_gets_others(tmp_path: Path) -> None:
    environment = {"PATH": "", "PYTHONIOENCODING": "ascii"}
    command = [*TRAIN, "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "..." in done.stdout
    assert not {"?", "\\"} & {*done.stdout}


def test_help_of_a_sweep_and_with_a_broken_file_beside(train: Train, tmp_path: Path) -> None:
    assert train("--multirun", "model=cnn,gru", "--help").out.startswith("model=cnn")
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "broken.yaml").write_text("a: [\n")
    result = train("--config-dir", str(tmp_path / "mine"), "--help")
    assert result.code == 0
    assert "broken       (" in result.out


def test_nobody_reading_is_no_error(tmp_path: Path) -> None:
    for words in ("--help", "--info", "--cfg job"):
        command = f"{sys.executable} {REPOSITORY / 'cli.py'} {words} | head -1"
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.stderr == "", done.stderr[-1000:]


def test_the_public_names_are_there_whatever_was_imported_before() -> None:
    from trainer import ConfigError, RunError, compose, load, run
    from trainer.compose import check_command

    assert compose("epochs=3").settings.epochs == check_command.compose("epochs=3").settings.epochs == 3
    assert all(map(callable, (ConfigError, RunError, load, run)))
