"""Resuming a run: exactly, in the same directory, and only with changes that keep the training."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

import cli
from tests import kills
from tests.conftest import Result, Train
from tests.forked import forked
from tests.shell import TRAIN, summary
from trainer import compose, run
from trainer.compose.read_word import text_of
from trainer.config import ConfigError
from trainer.processes.signals import TERMINATED, Stopped
from trainer.runs.checkpoint_file import dump
from trainer.runs.directory import ENVIRONMENT, write_json
from trainer.runs.resume import naming_moved_data, with_earlier_words

SMALL = ("model.channels=[8]", "model.hidden=16", "batch_size=128", "logger=none")
Again = Callable[..., Result]


@pytest.fixture
def again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Again:
    """Return ``again("epochs=3", …)``, which runs the command in this process, always in the same folder."""

    def call(*words: str) -> Result:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["train", *words])
        monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
        capfd.readouterr()
        code = cli.main()
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err, tmp_path)

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory after one step, to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    assert forked([*SMALL, "run_dir=here", "max_steps=1"], folder).returncode == 0
    return folder / "here"


@pytest.fixture
def here(trained: Path, tmp_path: Path) -> Path:
    """The directory ``here`` of a run after one step, in the folder of ``again``."""
    shutil.copytree(trained, tmp_path / "here")
    return tmp_path / "here"


def state(folder: Path, name: str = "last.pt") -> dict[str, object]:
    loaded: dict[str, object] = torch.load(folder / "checkpoints" / name, weights_only=True)
    return {name: kills.plain(loaded[name]) for name in ("model", "optimizer", "progress", "random", "step")}


@pytest.mark.parametrize(
    "more",
    [
        pytest.param((), marks=pytest.mark.slow),
        ("model.dropout=0.3", "ema=0.9", "dataset.augment.crop=1"),
        pytest.param(("scheduler=plateau",), marks=pytest.mark.slow),
    ],
)
def test_raising_the_epochs_of_a_finished_run_ends_as_if_they_had_been_asked_for_at_once(
    again: Again, tmp_path: Path, more: tuple[str, ...]
) -> None:
    assert again(*SMALL, *more, "run_dir=whole", "epochs=3").code == 0
    assert again(*SMALL, *more, "run_dir=parts", "epochs=1").code == 0
    for epochs in (2, 3):
        assert again(*SMALL, *more, "run_dir=parts", "resume=auto", f"epochs={epochs}").code == 0
    assert state(tmp_path / "parts") == state(tmp_path / "whole")
    assert kills.lines(tmp_path / "parts" / "metrics.jsonl") == kills.lines(tmp_path / "whole" / "metrics.jsonl")


def test_a_run_knows_its_own_words(again: Again, tmp_path: Path) -> None:
    assert again(*SMALL, "run_dir=a run", "epochs=1", "seed=4").code == 0
    result = again("resume='a run'", "epochs=2")
    assert result.code == 0, result.err
    config = yaml.safe_load((tmp_path / "a run" / "config.yaml").read_text())
    assert (config["epochs"], config["seed"], config["model"]["hidden"]) == (2, 4, 16)
    words = yaml.safe_load((tmp_path / "a run" / "overrides.yaml").read_text())
    assert [word for word in words if word.startswith(("seed", "epochs"))] == ["seed=4", "epochs=2"]
    resumed = json.loads((tmp_path / "a run" / "environment.json").read_text())["resumed"]
    assert [each["step"] for each in resumed] == [11]


def test_last_is_the_newest_run_under_outputs(again: Again, tmp_path: Path) -> None:
    assert again("resume=last").err == "train: error: resume=last: no run under outputs\n"
    for seed in (1, 2):
        assert again(*SMALL, "max_steps=3", f"seed={seed}").code == 0
    newest = max(tmp_path.glob("outputs/*/*"), key=lambda path: path.stat().st_mtime)
    result = again("resume=last", "max_steps=5")
    assert result.code == 0
    assert summary(newest)["steps"] == 5
    assert len(list(tmp_path.glob("outputs/*/*"))) == 2


def test_auto_starts_where_nothing_is_and_a_finished_run_stays_as_it_is(again: Again, tmp_path: Path) -> None:
    words = (*SMALL, "run_dir=here", "resume=auto", "max_steps=4")
    first = again(*words)
    assert (first.code, "resume   no checkpoint in here yet: starting" in first.out) == (0, True)
    lines, results = kills.lines(tmp_path / "here" / "metrics.jsonl"), summary(tmp_path / "here")
    second = again(*words)
    assert second.code == 0
    assert "resume   nothing left to train after step 4; more epochs= would go on" in second.out
    assert kills.lines(tmp_path / "here" / "metrics.jsonl") == lines
    repeated = summary(tmp_path / "here")
    assert repeated["seconds"] >= results["seconds"]
    timing = dict.fromkeys(("seconds", *kills.TIMING))
    assert repeated | timing == results | timing


@pytest.mark.parametrize("words", [("log_every=2",), ("log_every=3", "checkpoint.every_steps=1", "checkpoint.keep=2")])
def test_a_run_that_ended_within_an_epoch_goes_on_as_if_it_had_not(
    again: Again, tmp_path: Path, words: Sequence[str]
) -> None:
    words = (*SMALL[:3], "batch_size=512", "logger=[csv]", "optimizer.lr=0.01", "scheduler=plateau", *words)
    assert again(*words, "run_dir=parts", "max_steps=5").code == 0  # an epoch has 3 steps
    short = summary(tmp_path / "parts")
    assert (short["best"]["step"], short["tested_step"]) == (5, 5)  # the evaluation at its end is its best
    assert again("resume=parts", "max_steps=8").code == 0
    assert again("resume=parts", "max_steps=11").code == 0
    assert again(*words, "run_dir=whole", "max_steps=11").code == 0
    names = ("model", "progress", "ranking", "scheduler", "epoch", "window")
    for file in ("last.pt", "best.pt"):
        states = [torch.load(tmp_path / name / "checkpoints" / file, weights_only=True) for name in ("parts", "whole")]
        parts, whole = ({name: kills.plain(each[name]) for name in names} for each in states)
        assert parts == whole
    curves = [[{key: value for key, value in line.items() if key not in kills.TIMING}
               for line in kills.lines(tmp_path / name / "metrics.jsonl")] for name in ("parts", "whole")]  # fmt: skip
    assert curves[0] == curves[1]
    files = [{path.name for path in (tmp_path / name / "checkpoints").iterdir()} for name in ("parts", "whole")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("model=gru", "model: is cnn in the run here and cannot become gru (its weights fit no other)"),
        ("model.hidden=32", "model.hidden: is 16 in the run here and cannot become 32 (its weights fit no other)"),
        ("dataset=synthetic", "dataset: is digits in the run here and cannot become synthetic"),
        ("batch_size=64", "batch_size: is 128 in the run here and cannot become 64 (the position in the epoch is"),
        ("seed=1", "seed: is 0 in the run here and cannot become 1 (the order of the samples follows from it)"),
        ("optimizer.lr=0.5", "optimizer.lr: is 0.001 in the run here and cannot become 0.5"),
        ("ema=0.5", "ema: is null in the run here and cannot become 0.5"),
        ("scheduler=cosine", "scheduler: is constant in the run here and cannot become cosine"),
        ("precision=bf16", "precision: is auto in the run here and cannot become bf16"),
    ],
)
@pytest.mark.parametrize("how", ["auto", "named"])
@pytest.mark.usefixtures("here")
def test_what_would_be_another_training_is_refused_and_nothing_written(
    again: Again, tmp_path: Path, word: str, line: str, how: str
) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "here").rglob("*") if path.is_file()}
    words = [*SMALL, "run_dir=here", "resume=auto"] if how == "auto" else ["resume=here"]
    if how == "auto" and word.startswith("model"):
        words = [each for each in words if not each.startswith("model." if word == "model=gru" else "model.hidden")]
    words = [each for each in words if each.partition("=")[0] != word.partition("=")[0]]
    result = again(*words, word, "epochs=30")
    assert result.code == 2
    assert result.err.startswith(f"train: error: {line}"), result.err
    assert all("start another run" in each for each in result.err.splitlines())
    assert {path: path.read_bytes() for path in (tmp_path / "here").rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("here")
def test_what_only_rounds_differently_is_taken_and_said(again: Again) -> None:
    result = again("resume=here", "max_steps=3", "accumulate=2", "log_every=1", "patience=7")
    assert result.code == 0, result.err
    assert "resume   accumulate was 1 and is 2: the same training, no longer bit for bit" in result.out


def test_a_schedule_that_stretches_is_said(again: Again) -> None:
    assert again(*SMALL, "run_dir=here", "epochs=1", "scheduler=onecycle").code == 0
    result = again("resume=here", "epochs=2")
    assert "resume   scheduler=onecycle stretches over 22 steps now instead of 11" in result.out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["resume=nowhere"], "resume: nowhere: not a run directory, it has no config.yaml"),
        (["resume=here/checkpoints"], "resume: here/checkpoints: not a run directory, it has no config.yaml; did you "
                                    "mean here?"),
        (["resume=auto"], "resume: auto: needs a run_dir that is the same each time, not outputs/"),
        (["resume=here", "run_dir=other"], "run_dir: a resumed run goes on in its own directory; leave run_dir out"),
        (["resume=here", "--multirun", "seed=0,1"], "resume: here: a sweep goes on with sweep=last, sweep=FOLDER "
                                                 "or the same sweep_dir"),
        (["resume=auto", "-m", "seed=0,1"], "resume: auto: needs a sweep_dir that is the same each time, not"),
        (["run_dir=here"], "run_dir: here is there already; name another, or go on with it: resume=auto"),
        (["run_dir=docs", "resume=auto"], "run_dir: docs holds other files and no run; name another"),
        (["resume=here", "optimizer.lrr=1"], "optimizer.lrr: no such key (from the command line); did you mean"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("here")
def test_what_cannot_be_gone_on_with_is_a_line(again: Again, tmp_path: Path, words: list[str], line: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.tex").write_text("mine")
    result = again(*words)
    assert result.code == 2
    assert result.err.startswith(f"train: error: {line}"), result.err
    assert len(result.err.splitlines()) == 1


def change_checkpoint(run_dir: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the state in the last checkpoint of a run, and write it with the right checksum."""
    path = run_dir / "checkpoints" / "last.pt"
    changed = torch.load(path, weights_only=True)
    change(changed)
    path.unlink()
    dump(changed, path)


def test_changed_data_is_refused(again: Again, tmp_path: Path) -> None:
    assert again(*SMALL, "run_dir=here", "max_steps=1", "dataset=synthetic", "dataset.samples=64").code == 0
    change_checkpoint(tmp_path / "here", lambda state: state["fingerprint"].update(sha256="0" * 64))
    result = again("resume=here", "max_steps=2")
    assert (result.code, result.err) == (
        2, "train: error: dataset: the samples are not those that the run here was started with: as many samples, but "
        "other ones, other targets or another order\n",
    )  # fmt: skip
    change_checkpoint(tmp_path / "here", lambda state: state["fingerprint"].update(train=40))
    (line,) = again("resume=here", "max_steps=2").err.splitlines()
    assert line.endswith("was started with: train 40 → 54")


@pytest.mark.usefixtures("here")
def test_code_is_never_taken_from_a_run_directory(again: Again, tmp_path: Path) -> None:
    config = tmp_path / "here" / "config.yaml"
    (tmp_path / "evil.py").write_text("open('ran', 'w')")
    config.write_text(config.read_text().replace("plugins: []", "plugins: [evil.py]"))
    result = again("resume=here")
    assert (result.code, not (tmp_path / "ran").exists()) == (2, True)
    assert "has components of evil.py; if you trust it, name it again" in result.err
    words = tmp_path / "here" / "overrides.yaml"
    config.write_text(config.read_text().replace("plugins: [evil.py]", "plugins: []"))
    words.write_text("- plugins=[evil.py]\n- hydra.searchpath=[evil]\n- +hydra.callbacks.x._target_=os.system\n")
    assert again("resume=here").code == 2  # the model's keys are gone from the words, so it is another model
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("here")
def test_nothing_is_written_through_a_link_out_of_the_run_directory(again: Again, tmp_path: Path) -> None:
    outside = tmp_path / "precious"
    outside.write_text("mine")
    (tmp_path / "here" / "metrics.jsonl").unlink()
    (tmp_path / "here" / "metrics.jsonl").symlink_to(outside)
    result = again("resume=here", "max_steps=2")
    assert (result.code, outside.read_text()) == (2, "mine")
    assert (
        result.err
        == "train: error: resume: here/metrics.jsonl: a link out of the run directory; a run writes only inside\n"
    )


@pytest.mark.parametrize(
    "word",
    [
        "plugins@_global_=[evil.py]",
        "+plugins@=[evil.py]",
        "--config-dir=evil",
        "hydra.launcher@x._target_=os.system",
        "",
    ],
)
@pytest.mark.usefixtures("here")
def test_a_word_that_could_hide_a_key_is_refused(again: Again, tmp_path: Path, word: str) -> None:
    (tmp_path / "evil.py").write_text("open('ran', 'w')")
    (tmp_path / "here" / "overrides.yaml").write_text(yaml.safe_dump([*SMALL, word]))
    result = again("resume=here")
    assert (result.code, (tmp_path / "ran").exists()) == (2, False)
    assert result.err == f"train: error: here/overrides.yaml: {word}: not an override such as epochs=3\n"


@pytest.mark.usefixtures("here")
def test_the_settings_of_a_repository_that_is_a_run_directory_are_not_followed(again: Again, tmp_path: Path) -> None:
    for words in (["init", "-q"], ["config", "core.fsmonitor", f"touch {tmp_path / 'ran'}; false"]):
        subprocess.run(["git", *words], cwd=tmp_path / "here", check=True)
    (tmp_path / "here" / "here").symlink_to(".")
    commit = "git add config.yaml && git -c user.name=x -c user.email=x commit -qm x"
    subprocess.run(commit, shell=True, cwd=tmp_path / "here", check=True)
    (tmp_path / "ran").unlink(missing_ok=True)
    done = forked(["resume=.", "max_steps=2"], tmp_path / "here")
    assert (done.returncode, (tmp_path / "ran").exists()) == (0, False), done.stderr


def test_a_logger_that_is_left_out_for_once_keeps_what_it_has(again: Again, tmp_path: Path) -> None:
    with_all = [*SMALL[:-1], "run_dir=here", "resume=auto", "logger=[tensorboard,csv]"]
    assert again(*with_all, "epochs=1").code == 0
    assert again(*SMALL, "run_dir=here", "resume=auto", "epochs=2").code == 0
    assert again(*with_all, "epochs=3").code == 0
    steps = {step for _, step, _ in kills.points(tmp_path / "here" / "tensorboard")["val"]}
    assert steps == {11, 33}
    assert [row[0] for row in kills.without_timing((tmp_path / "here" / "metrics.csv").read_text())] == [
        *("step", "11", "11", "33", "33", "33")
    ]  # fmt: skip


@pytest.mark.usefixtures("here")
def test_a_finished_run_without_its_checkpoints_is_no_new_one(again: Again, tmp_path: Path) -> None:
    before = (tmp_path / "here" / "metrics.jsonl").read_bytes()
    shutil.rmtree(tmp_path / "here" / "checkpoints")
    for words in (["resume=here"], [*SMALL, "run_dir=here", "resume=auto", "seed=5"]):
        result = again(*words)
        assert result.err.startswith("train: error: resume: here has trained, but its checkpoints are gone")
    assert (tmp_path / "here" / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metrics.jsonl", '{"step": 2, "ep', "warning  here/metrics.jsonl is shorter than it was: points are missing"),
        (
            "metrics.csv",
            "\x00,b\n1,2,3,4",
            "warning  here/metrics.csv was changed since then: points are missing",
        ),
        ("tensorboard", None, "warning  event files in here/tensorboard are gone or shorter than they were"),
        ("environment.json", '{"resumed": 5}', "resume   after step 2"),
        ("environment.json", "garbage", "resume   after step 2"),
        ("summary.json", "garbage", "resume   after step 2"),
    ],
)
def test_damage_to_what_is_written_beside_is_said_and_ends_nothing(
    again: Again, tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    words = (*SMALL[:-1], "logger=[tensorboard,csv]", "log_every=1", "run_dir=here", "resume=auto")
    assert again(*words, "max_steps=2").code == 0
    shutil.rmtree(tmp_path / "here" / name) if content is None else (tmp_path / "here" / name).write_text(content)
    result = again(*words, "max_steps=4")
    assert (result.code, said in result.out) == (0, True), (result.out, result.err)
    assert [line["step"] for line in kills.lines(tmp_path / "here" / "metrics.jsonl")][-2:] == [4, 4]
    assert (
        json.loads((tmp_path / "here" / "environment.json").read_text()).get("seed") == 0 or content == '{"resumed": 5}'
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda state: state["progress"].update(batch=10**9), ""),
        (lambda state: state.pop("total_steps"), ""),
        (lambda state: state.update(step="2"), "step: Expected int, got str"),
        (lambda state: state.update(progress=[]), "progress: Expected object, got array"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_whole_checkpoint_of_something_else_is_refused(
    again: Again, tmp_path: Path, spoil: Callable[[dict[str, Any]], None], said: str
) -> None:
    change_checkpoint(tmp_path / "here", spoil)
    result = again("resume=here", "max_steps=3")
    file = "here/checkpoints/last.pt"
    line = f"{file}: is no checkpoint of a run: {said}" if said else f"resume: {file} is no checkpoint of this version"
    assert (result.code, result.err) == (2, f"train: error: {line}\n")


def test_a_run_killed_before_its_config_was_there_starts_again(again: Again, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    for name in (".lock", "train.log", "overrides.yaml", ".config.yaml.tmp"):
        (tmp_path / "here" / name).write_text("")
    assert again(*SMALL, "run_dir=here", "resume=auto", "max_steps=1").code == 0


@pytest.mark.usefixtures("here")
def test_a_moved_run_goes_on_where_it_is_now(again: Again, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    shutil.move(tmp_path / "here", tmp_path / "there" / "run")
    assert again("resume=there/run", "max_steps=2").code == 0
    assert summary(tmp_path / "there" / "run")["steps"] == 2
    assert not (tmp_path / "here").exists()


@pytest.mark.slow
def test_the_second_of_two_at_once_is_refused_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    words = [*TRAIN, *SMALL, "run_dir=here", "resume=auto", "epochs=100000"]
    words += ["dataset.in_memory=false", "dataset.workers=2"]  # whose processes outlive it for a while
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, env=environment)
    try:
        while not (tmp_path / "here" / "checkpoints" / "last.pt").exists():
            assert first.poll() is None
        second = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
        assert (second.returncode, second.stderr) == (
            2, "train: error: run_dir: another run is at work in here; wait for its end, or stop it\n",
        )  # fmt: skip
    finally:
        first.kill()
        first.wait()
    last = subprocess.run(
        [*words, "max_time=1s"], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
    )
    assert (last.returncode, last.stderr) == (TERMINATED, "train: max_time is over\n")
    fewer = subprocess.run(
        [*words, "epochs=1"], cwd=tmp_path, capture_output=True, text=True, env=environment, check=False
    )
    assert fewer.returncode == 2
    assert re.fullmatch(
        r"train: error: epochs: the run here has made \d+ and cannot become 1; start another run\n", fewer.stderr
    )
    assert yaml.safe_load((tmp_path / "here" / "config.yaml").read_text())["epochs"] == 100000


def test_from_python_a_run_goes_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(compose(*SMALL, "run_dir=here", "max_steps=2"))
    summary, _ = run(compose("resume=here", "max_steps=3"))
    assert summary["steps"] == 3
    with pytest.raises(ConfigError, match="seed: is 0 in the run here and cannot become 1"):
        compose("resume=here", "seed=1")
    with pytest.raises(Stopped):
        run(compose("resume=here", "max_steps=null", "epochs=1000000", "max_time=1s"))


def test_words_that_name_no_run_stay_as_they_are() -> None:
    for words in (["model=gru"], ["resume=auto", "run_dir=x"], ["resume=null"]):
        assert with_earlier_words(words, text_of) == words


@pytest.mark.usefixtures("here")
def test_of_an_option_that_is_exchanged_the_keys_are_left_out(again: Again) -> None:
    result = again("resume=here", "model=gru")
    assert result.err.startswith("train: error: model: is cnn in the run here and cannot become gru")
    assert len(result.err.splitlines()) == 1


def test_data_that_a_relative_path_no_longer_finds_have_their_remedy(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "my data").mkdir()
    write_json(tmp_path / "run" / ENVIRONMENT, {"directory": str(tmp_path)})
    for path, remedy in (
        ("my data", f"""; the run was started in another folder: 'dataset.path="{tmp_path}/my data"'"""),
        ("elsewhere", "; if they have moved, dataset.path=… says where they are"),
        ({"train": "my data"}, "; if they have moved, dataset.path=… says where they are"),
    ):
        with pytest.raises(ConfigError) as refused, naming_moved_data(tmp_path / "run", path):
            raise ConfigError("dataset.path: x: no such file or folder", "seed: y")
        assert refused.value.problems == (f"dataset.path: x: no such file or folder{remedy}", "seed: y")


def test_a_resumed_run_names_where_its_data_are(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    for label in "ab":
        (tmp_path / "here" / "data" / label).mkdir(parents=True)
        for number in range(12):
            Image.new("L", (8, 8), number * 9).save(tmp_path / "here" / "data" / label / f"{number}.png")
    words = [
        "dataset=image_folder",
        "dataset.path=data",
        "epochs=1",
        "logger=none",
        "model.channels=[2]",
        "run_dir=run",
    ]
    assert forked(words, tmp_path / "here").returncode == 0
    refused = forked(["resume=../here/run", "epochs=2"], tmp_path / "there")
    assert refused.returncode == 2
    remedy = refused.stderr.rstrip().rpartition(" ")[2]
    assert remedy == f"dataset.path={tmp_path}/here/data"
    assert forked(["resume=../here/run", "epochs=2", remedy], tmp_path / "there").returncode == 0


def test_a_named_pipe_is_named_and_not_called_missing(train: Train, tmp_path: Path) -> None:
    for name in ("config.yaml", "overrides.yaml"):
        os.mkfifo(tmp_path / name)
    os.mkfifo(tmp_path / "mine.py")
    for word, file in (
        (f"resume={tmp_path}", "config.yaml"),
        (f"sweep={tmp_path}", "overrides.yaml"),
        (f"plugins=[{tmp_path}/mine.py]", "mine.py"),
    ):
        result = train(word)
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert f"{file}: is a named pipe, not a file" in result.err


def test_texts_of_an_earlier_version_are_read_as_it_read_them(again: Again, tmp_path: Path) -> None:
    lines = ["दिन İyi 1990's film", "दो bad film"]
    (tmp_path / "d").mkdir()
    for label, line in zip(("pos", "neg"), lines, strict=True):
        (tmp_path / "d" / f"{label}.txt").write_text(f"{line}\n" * 20, encoding="utf-8")
    words = ["dataset=text", "dataset.path=d", "model=cnn", "run_dir=run", *SMALL[:1], "logger=none", "device=cpu"]
    assert again(*words, "dataset.token_rules=1", "epochs=1").code == 0
    for name in ("config.yaml", "overrides.yaml"):  # an earlier version did not know the key
        file = tmp_path / "run" / name
        kept = [line for line in file.read_text().splitlines() if "token_rules" not in line]
        file.write_text("\n".join(kept) + "\n")
    result = again("resume=run", "epochs=2")
    assert (result.code, result.err) == (0, "")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["dataset"]["token_rules"] == 1
    refused = again(*words, "resume=auto", "epochs=3")
    assert refused.code == 2
    assert "dataset.token_rules: is 1 in the run run and cannot become 2" in refused.err
