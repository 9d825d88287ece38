"""The loggers: what they write is read back by the tools that will read it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import Tensor

from tests.helpers import defaults
from trainer.logger import LOGGERS, Logger
from trainer.logger._confusion import MARGIN, draw_confusion
from trainer.logger._jsonl import JSONL

TRAINING = {"train/loss": 0.75, "train/accuracy": 0.5, "lr": 0.01, "samples_per_second": 1000.0}
VALIDATION = {"val/loss": 0.5, "val/accuracy": 0.625, "epoch/data_wait": 0.25}
TESTING = {"test/loss": 0.25, "test/accuracy": 0.875}


def build(name: str, run_dir: Path, **keys: Any) -> Logger:
    logger = LOGGERS.build(defaults("logger", name, **keys), run_dir)
    assert isinstance(logger, Logger)
    return logger


def run_through(logger: Logger, channels: int = 1) -> None:
    """Everything that a run of two epochs tells a logger."""
    logger.log_samples(torch.rand(20, channels, 8, 8))
    for epoch in (1, 2):
        logger.log(TRAINING, 10 * epoch, epoch)
        logger.log(VALIDATION, 10 * epoch, epoch)
    logger.log(TESTING, 20, 2)
    logger.log_confusion(torch.tensor([[3, 1], [0, 4]]), ["cat", "dog"])
    logger.finish({"seed": 0, "optimizer.lr": 0.01, "model.name": "cnn", "compile": False}, TESTING)
    logger.close()


def read(folder: Path) -> Any:
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = read(folder)
    return {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def picture(folder: Path, tag: str) -> Tensor:
    (event,) = read(folder).Images(tag)
    return torch.from_numpy(np.array(Image.open(io.BytesIO(event.encoded_image_string))))


@pytest.mark.parametrize("name", LOGGERS.names())
def test_every_logger_takes_a_whole_run_and_one_that_failed_at_once(name: str, tmp_path: Path) -> None:
    whole, failed = tmp_path / "whole", tmp_path / "failed"
    for folder in (whole, failed):
        folder.mkdir()
    run_through(build(name, whole))
    build(name, failed).close()
    written = [path for path in whole.rglob("*") if path.is_file()]
    assert bool(written) is (name != "none")
    assert all(path.stat().st_size > 0 for path in written)


# TensorBoard


def test_tensorboard_has_the_same_tags_for_every_split(tmp_path: Path) -> None:
    run_through(build("tensorboard", tmp_path))
    folder = tmp_path / "tensorboard"
    assert scalars(folder / "train") == {"loss": [(10, 0.75), (20, 0.75)], "accuracy": [(10, 0.5), (20, 0.5)]}
    assert scalars(folder / "val") == {"loss": [(10, 0.5), (20, 0.5)], "accuracy": [(10, 0.625), (20, 0.625)]}
    assert scalars(folder / "test") == {"loss": [(20, 0.25)], "accuracy": [(20, 0.875)]}


def test_tensorboard_puts_what_belongs_to_no_split_into_the_folder_itself(tmp_path: Path) -> None:
    run_through(build("tensorboard", tmp_path))
    points = scalars(tmp_path / "tensorboard")
    assert [(step, round(lr, 8)) for step, lr in points["lr"]] == [(10, 0.01), (20, 0.01)]  # float32
    assert points["samples_per_second"] == [(10, 1000.0), (20, 1000.0)]
    assert points["epoch/data_wait"] == [(10, 0.25), (20, 0.25)]
    assert {path.name for path in (tmp_path / "tensorboard").iterdir() if path.is_dir()} == {"train", "val", "test"}


def test_tensorboard_has_a_row_of_hyperparameters_with_the_final_metrics(tmp_path: Path) -> None:
    run_through(build("tensorboard", tmp_path))
    events = read(tmp_path / "tensorboard")
    contents = events.PluginTagToContent("hparams")
    experiment = HParamsPluginData.FromString(contents["_hparams_/experiment"]).experiment
    session = HParamsPluginData.FromString(contents["_hparams_/session_start_info"]).session_start_info
    assert session.hparams["seed"].number_value == 0
    assert session.hparams["optimizer.lr"].number_value == 0.01
    assert session.hparams["model.name"].string_value == "cnn"
    assert session.hparams["compile"].number_value == 0  # torch counts a switch among the numbers
    assert {info.name for info in experiment.hparam_infos} == set(session.hparams)
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert sorted(metrics) == sorted(TESTING)
    assert {tag: events.Scalars(tag)[-1].value for tag in metrics} == TESTING  # the table finds its values
    assert "_hparams_/session_end_info" in contents


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
def test_tensorboard_shows_samples_stretched_to_the_full_range(
    channels: int, dtype: torch.dtype, tmp_path: Path
) -> None:
    logger = build("tensorboard", tmp_path, images=4)
    images = torch.full((6, channels, 8, 8), 50.0)
    for number in range(6):
        images[number, :, :4] = 60 + 10 * number  # above darker below
    logger.log_samples(images.to(dtype))
    logger.close()
    shown = picture(tmp_path / "tensorboard", "samples/train")
    assert shown.shape[2] == 3
    assert shown.shape[0] * shown.shape[1] == 4 * 8 * 8  # four of the six
    # two rows of two, each white above and black below
    assert all(bool((shown[row : row + 4] == 255).all()) for row in (0, 8))
    assert all(bool((shown[row : row + 4] == 0).all()) for row in (4, 12))


def test_tensorboard_shows_even_a_sample_of_one_grey(tmp_path: Path) -> None:
    logger = build("tensorboard", tmp_path, images=1)
    logger.log_samples(torch.full((1, 1, 8, 8), 7.0))
    logger.close()
    assert not picture(tmp_path / "tensorboard", "samples/train").any()


@pytest.mark.parametrize(("images", "channels"), [(0, 1), (0, 3), (16, 2), (16, 4)])
def test_tensorboard_shows_no_samples_where_none_are_wanted_or_can_be_shown(
    images: int, channels: int, tmp_path: Path
) -> None:
    run_through(build("tensorboard", tmp_path, images=images), channels)
    assert read(tmp_path / "tensorboard").Tags()["images"] == ["confusion/test"]


def test_tensorboard_shows_the_confusion_matrix(tmp_path: Path) -> None:
    run_through(build("tensorboard", tmp_path))
    shown = picture(tmp_path / "tensorboard", "confusion/test")
    assert torch.equal(shown.permute(2, 0, 1), draw_confusion(torch.tensor([[3, 1], [0, 4]]), ["cat", "dog"]))


# Tables and lines


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_for_each_point_at_once(tmp_path: Path) -> None:
    logger = build("csv", tmp_path)
    for step in (1, 2, 3):
        logger.log({"train/loss": step / 8}, step, 1)
        read_now = rows(tmp_path / "metrics.csv")  # before it is closed
        assert [row["train/loss"] for row in read_now] == [str(each / 8) for each in range(1, step + 1)]
    logger.close()
    assert rows(tmp_path / "metrics.csv")[-1] == {"step": "3", "epoch": "1", "train/loss": "0.375"}


def test_csv_takes_new_columns_later(tmp_path: Path) -> None:
    run_through(build("csv", tmp_path))
    table = rows(tmp_path / "metrics.csv")
    assert list(table[0]) == ["step", "epoch", *TRAINING, *VALIDATION, *TESTING]
    assert [(row["step"], row["epoch"]) for row in table] == [
        ("10", "1"),
        ("10", "1"),
        ("20", "2"),
        ("20", "2"),
        ("20", "2"),
    ]
    for row, point in zip(table, [TRAINING, VALIDATION, TRAINING, VALIDATION, TESTING], strict=True):
        values = {name: float(value) for name, value in row.items() if value and name not in ("step", "epoch")}
        assert values == point  # and what a point does not have stays empty


def test_csv_goes_where_its_key_says(tmp_path: Path) -> None:
    run_through(build("csv", tmp_path, file="curves.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["curves.csv"]


def test_csv_keeps_every_digit(tmp_path: Path) -> None:
    logger = build("csv", tmp_path)
    logger.log({"train/loss": 1 / 3, "lr": 1e-12}, 1, 1)
    (row,) = rows(tmp_path / "metrics.csv")
    assert float(row["train/loss"]) == 1 / 3 and float(row["lr"]) == 1e-12


def test_jsonl_has_a_line_for_each_point_at_once(tmp_path: Path) -> None:
    logger = JSONL(tmp_path)
    logger.log(TRAINING, 10, 1)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 10, "epoch": 1, **TRAINING}
    logger.log(VALIDATION, 10, 1)
    logger.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 10, "epoch": 1, **TRAINING}, {"step": 10, "epoch": 1, **VALIDATION}]


def test_jsonl_goes_on_after_the_lines_of_before(tmp_path: Path) -> None:
    for step in (1, 2):
        logger = JSONL(tmp_path)
        logger.log({"train/loss": 1 / 3}, step, 1)
        logger.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": step, "epoch": 1, "train/loss": 1 / 3} for step in (1, 2)]


def test_none_writes_nothing(tmp_path: Path) -> None:
    run_through(build("none", tmp_path))
    assert list(tmp_path.iterdir()) == []


# The picture of a confusion matrix


def corner_of_cell(drawn: Tensor, true: int, guess: int, classes: int) -> int:
    """The brightness near the corner of a cell, beside its number."""
    cell = (drawn.shape[1] - MARGIN - 10) // classes
    return int(drawn[:, MARGIN + true * cell + 2, MARGIN + guess * cell + 2].sum())


@pytest.mark.parametrize("classes", [2, 10, 40, 41, 100])
def test_confusion_picture_of_right_answers_has_a_dark_diagonal(classes: int) -> None:
    drawn = draw_confusion(5 * torch.eye(classes, dtype=torch.int64), [f"name {number}" for number in range(classes)])
    assert drawn.dtype == torch.uint8 and drawn.ndim == 3 and drawn.shape[0] == 3
    assert drawn.shape[1] == drawn.shape[2] <= 1600
    shades = [[corner_of_cell(drawn, true, guess, classes) for guess in range(classes)] for true in range(classes)]
    for true in range(classes):
        for guess in range(classes):
            assert shades[true][guess] == (8 + 64 + 129 if true == guess else 3 * 255)


def test_confusion_picture_has_true_classes_as_rows_and_shades_each_over_its_sum() -> None:
    drawn = draw_confusion(torch.tensor([[100, 300, 0], [0, 0, 0], [1, 0, 1]]), ["a", "b", "c"])
    shades = [[corner_of_cell(drawn, true, guess, 3) for guess in range(3)] for true in range(3)]
    white = 3 * 255
    assert shades[0][1] < shades[0][0] < white  # three quarters, a quarter
    assert shades[0][0] == pytest.approx(white - (white - 201) / 4, abs=2)
    assert shades[1] == [white] * 3  # a class without a sample
    assert shades[2][0] == shades[2][2] == pytest.approx(white - (white - 201) / 2, abs=2)
    assert shades[0][2] == shades[2][1] == white


def test_confusion_picture_names_its_classes_and_counts() -> None:
    counts = torch.eye(3, dtype=torch.int64)
    unnamed, named = draw_confusion(counts, ["", "", ""]), draw_confusion(counts, ["cat", "dog", "a very long name"])
    assert unnamed.shape == named.shape
    different = (unnamed != named).any(0)
    assert different[MARGIN:, :MARGIN].any() and different[:MARGIN, MARGIN:].any()  # rows and columns
    assert not different[MARGIN:, MARGIN:].any()
    more = draw_confusion(7 * counts, ["", "", ""])
    assert (unnamed != more).any()  # the same shades, other numbers
