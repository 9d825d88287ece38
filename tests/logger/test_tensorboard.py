"""TensorBoard: TensorBoard's own reader finds what was written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer import event_file_writer
from torch import Tensor

from tests.logger.helpers import TESTING, build, run_through
from trainer.logger._confusion import draw_confusion


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


def test_tensorboard_has_the_same_tags_for_every_split(tmp_path: Path) -> None:
    run_through(build("tensorboard", tmp_path))
    folder = tmp_path / "tensorboard"
    assert scalars(folder / "train") == {"loss": [(10, 0.75), (20, 0.75)], "accuracy": [(10, 0.5), (20, 0.5)]}
    assert scalars(folder / "val") == {"loss": [(10, 0.5), (20, 0.5)], "accuracy": [(10, 0.625), (20, 0.625)]}
    assert scalars(folder / "test") == {"loss": [(20, 0.25)], "accuracy": [(20, 0.875)]}


def test_tensorboard_keeps_the_points_of_an_earlier_process_with_the_same_id_in_the_same_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_file_writer.time, "time", lambda: 1_800_000_000.5)
    state: dict[str, Any] = {}
    for step in range(1, 4):
        monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
        logger = build("tensorboard", tmp_path)
        logger.load_state_dict(state)
        logger.log({"train/loss": float(step)}, step, 1)
        state = logger.state_dict()
        logger.close()
    assert scalars(tmp_path / "tensorboard" / "train")["loss"] == [(1, 1.0), (2, 2.0), (3, 3.0)]


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
