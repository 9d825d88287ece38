"""The command: exit codes, one line for each mistake, and no torch before it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Train

WRONG = {
    "optimizer.lrr=3": "optimizer.lrr: no such key (from the command line); did you mean optimizer.lr? keys: lr, betas",
    "optimiser=adam": "optimiser: no such key (from the command line); did you mean optimizer?",
    "dataset.augment.crp=1": "dataset.augment.crp: no such key (from the command line); did you mean dataset.augment.c",
    "model=cn": "model=cn: no such option; did you mean cnn? options: cnn, gru, lstm, torchvision",
    "experiment=mnist_cn": "experiment=mnist_cn: no such option; did you mean mnist_cnn?",
    "optimizer.lr=abc": "optimizer.lr: must be a number, greater than 0 and finite, got 'abc' (from the command line)",
    "optimizer.lr=nan": "optimizer.lr: must be a number, greater than 0 and finite, got nan",
    "epochs=2.5": "epochs: must be a whole number, at least 1, got 2.5",
    "epochs=0": "epochs: must be a whole number, at least 1, got 0",
    "model.hidden=true": "model.hidden: must be a whole number, at least 1, got True",
    "model.dropout=1.5": "model.dropout: must be a number, at least 0 and less than 1, got 1.5",
    "precision=fp8": "precision: must be one of auto, fp32, bf16, fp16, got 'fp8'",
    "checkpoint=3": "checkpoint",
    "+foo=1": "foo: no such key (from the command line); keys: seed, epochs",
    "+model.foo=1": "model.foo: no such key (from the command line); keys: channels",
    "~optimizer": "optimizer: missing; options: adagrad, adam",
    "optimizer.betas=[0.9]": "optimizer.betas: must be a list, each item a number, at least 0 and less than 1, 2 of",
    "loss=bce": "loss=bce: needs two classes or several labels; dataset=digits has 10 classes",
    "loss.weight=[1,1,1,1,1,1,1,1,1,0]": "loss.weight: must be a list, each item a number, greater than 0 and finite",
    "loss.weight=[1,2]": "loss.weight: must have 10 numbers, one for each class, got 2",
    "metrics=[acuracy]": "metrics: acuracy: no such metric for classification; did you mean accuracy?",
    "monitor=val/f1": "monitor: val/f1: no metric yields it; metrics: val/loss, val/accuracy",
    "model.channels=[8,8,8,8]": "model.channels: 4 blocks halve the size 4 times",
    "dataset.val_fraction=0.0001": "dataset.val_fraction: 0.0001 of 1527 samples leaves val without a sample",
    "optimizer.lr=[1": "optimizer.lr=[1: cannot be read",
    "optimizer=null": "Config group override must be a string or a list",
    "device=cpu device.threads=1000000": "device.threads: must be a whole number, at least 1 and at most 1024, or null",
    "accumulate=65": "accumulate: must be at most batch_size, 64, got 65",
    "seed": "seed: cannot be read",
    "model=cnn,gru": "model=cnn,gru: several values need --multirun",
    "dataset.root=nowhere": "dataset.root: no such key",
}


@pytest.mark.parametrize(("word", "line"), WRONG.items(), ids=WRONG)
def test_a_mistake_is_one_line_exit_code_2_and_nothing_written(train: Train, word: str, line: str) -> None:
    result = train(*word.split())
    assert (result.code, result.out) == (2, "")
    (only,) = result.err.splitlines()
    assert only.startswith(f"train: error: {line}")
    assert list(result.folder.iterdir()) == []


def test_all_mistakes_of_a_command_are_reported_together(train: Train) -> None:
    result = train("model.dropout=1.5", "epochs=0", "+optimizer.lrr=1", "seed=-1")
    assert result.code == 2
    assert [line.split(": ")[2] for line in result.err.splitlines()] == [
        "seed", "epochs", "model.dropout", "optimizer.lrr",
    ]  # fmt: skip


def test_what_would_do_nothing_without_a_val_split_is_refused(train: Train) -> None:
    words = ("patience=3", "monitor=val/loss", "checkpoint.keep=2", "scheduler=plateau", "dataset.val_fraction=0")
    result = train(*words)
    assert result.code == 2
    keys = ["patience", "monitor", "checkpoint.keep", "scheduler=plateau"]
    lines = [f"train: error: {key}: needs a val split, but dataset.val_fraction is 0" for key in keys]
    assert result.err.splitlines() == lines


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
    command = [sys.executable, str(REPOSITORY / "cli.py"), "epochs=0"]
    environment = {"HYDRA_FULL_ERROR": "1", "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" in done.stderr


WITHOUT_TORCH = ["--help", "--cfg job", "--info defaults", "--hydra-help", "optimizer.lrr=3", "model=cn", "epochs=x=1"]


@pytest.mark.parametrize("words", WITHOUT_TORCH)
def test_what_does_not_train_does_not_import_torch(words: str, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); sys.argv[1:] = {words.split()!r}\n"
        "import cli\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, "torch was imported"
    assert done.stdout or done.stderr.startswith("train: error: ")
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_makes_a_run_directory_for_each_job_and_goes_on_after_a_failed_one(train: Train) -> None:
    result = train("--multirun", "optimizer.lr=-1,1e-3", "seed=0,1", "max_steps=2", "logger=none")
    assert result.code == 2
    assert result.err.count("optimizer.lr: must be a number") == 2
    assert [path.name for path in result.run_dirs] == ["2", "3"]
    assert all((path / "summary.json").is_file() for path in result.run_dirs)


def test_the_users_own_config_dir_adds_options(train: Train, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "small.yaml").write_text("defaults: [cnn]\nchannels: [4, 8]\nhidden: 16\n")
    result = train("--config-dir", str(tmp_path / "mine"), "model=small", "max_steps=2", "logger=none")
    assert result.code == 0, result.err
    assert "2,0" in result.out or "parameters" in result.out
    assert (result.run_dir / "config.yaml").read_text().count("hidden: 16") == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: cnn\nhidden:256\nnorm: none\n", "model/mine.yaml, line 3: no YAML: "),
        ("channels: [4]\n", "model.name: missing; the YAML says which component it is for"),
        ("name: cnm\n", "model=cnm: no such option; did you mean cnn?"),
    ],
)
def test_a_yaml_of_the_users_own_that_is_wrong_is_one_line(train: Train, tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "mine.yaml").write_text(text)
    result = train("--config-dir", str(tmp_path / "mine"), "model=mine")
    assert result.code == 2
    (only,) = result.err.splitlines()
    assert line in only


def test_a_key_of_a_group_is_suggested_where_only_its_name_was_typed(train: Train) -> None:
    assert "did you mean optimizer.lr? keys: " in train("lr=0.1").err


def test_early_stopping_says_so(train: Train) -> None:
    result = train("logger=none", "optimizer=sgd", "optimizer.lr=1e-30", "patience=2", "epochs=50")
    assert "stopped  no better val/accuracy in 2 evaluations" in result.out
