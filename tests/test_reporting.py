"""What a person reads about a run: its lines on the terminal, and one line for an error."""

from __future__ import annotations

import contextlib
import re
import signal
from pathlib import Path

from tests.conftest import Train
from trainer.compose.check_command import compose
from trainer.config import Job
from trainer.processes.signals import Stopped
from trainer.reporting import _next_words
from trainer.runs.directory import RunDirectory


def test_the_terminal_shows_a_block_a_line_for_each_epoch_and_the_end(train: Train) -> None:
    lines = train("epochs=2").out.splitlines()
    firsts = " ".join(line.split()[0] for line in lines)
    assert firsts == "model data device run epoch epoch test run next next"
    assert lines[0] == "model    cnn, 53,002 parameters"
    assert lines[1] == "data     digits: image 1×8×8, 10 classes; train 1,298, val 229, test 270"
    assert "train loss" in lines[4]
    assert "val accuracy" in lines[4]
    assert re.search(r"  \d+\.\d s  [\d,.]+/s  data \d+ %  \* best$", lines[4])
    assert max(map(len, lines[4:6])) <= 110
    assert lines[8].startswith("next     tensorboard --logdir outputs/")
    assert lines[9].startswith("next     trainer report outputs/")


def test_a_pipe_gets_neither_bar_nor_colour(train: Train) -> None:
    result = train("epochs=1")
    assert "\r" not in result.out + result.err
    assert "\x1b" not in result.out + result.err


def test_a_failure_before_training_still_leaves_a_log(train: Train, tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(b"not an IDX file")
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(b"")
    result = train("dataset=mnist", f"dataset.root={tmp_path}")
    assert result.code == 1
    (line,) = result.err.splitlines()
    assert line.startswith(f"train: error: dataset=mnist: cannot read the files in {raw}: ")
    assert line.endswith(f"(the log: {result.run_dir.relative_to(result.folder)}/train.log)")
    assert (result.run_dir / "train.log").read_text().count("ERROR dataset=mnist: cannot read the files") == 1
    assert "Traceback" in (result.run_dir / "train.log").read_text()
    assert result.summary["state"] == "failed"


def test_a_run_that_is_stopped_names_the_command_that_goes_on(tmp_path: Path) -> None:
    with contextlib.closing(RunDirectory(str(tmp_path / "a b"), fixed=True)) as directory:
        job = Job(compose("epochs=3", "max_time=1s").settings, words=("epochs=3", "max_time=1s"))
        again = job.replace(resume=str(directory.path))
        early, clock = Stopped(signal.SIGINT), Stopped(signal.SIGALRM)
        resume = f'resume="{directory.path}"'
        assert _next_words(directory, job, early) == []
        assert _next_words(directory, job, clock) == ["epochs=3", "max_time=null"]
        directory.claim({}, [])
        assert [_next_words(directory, job, stopped) for stopped in (early, clock)] == [[resume]] * 2
        directory.claimed = False  # as of a resumed run that is stopped before it has claimed its directory
        assert _next_words(directory, again, clock) == [resume, "max_time=null"]
