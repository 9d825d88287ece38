"""The TensorBoard logger: curves, hyper-parameters, sample images and the confusion matrix."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from trainer.config import NonNegativeInt
from trainer.logger import LOGGERS, Logger
from trainer.logger._confusion import draw_confusion

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger("trainer")


@LOGGERS.register
class Tensorboard(Logger):
    """Write event files to the folder ``tensorboard`` of the run directory.

    Each split has its own writer and subfolder, and all splits use the same tags, so that TensorBoard shows the curves
    of train and val in one chart. Values without a split (learning rate, gradient norm, speed, memory, images,
    hyper-parameters) are written to the folder itself.

    Args:
        run_dir: the run directory.
        images: the number of training images to show.
    """

    def __init__(self, run_dir: Path, *, images: NonNegativeInt) -> None:
        self._folder, self._images = run_dir / "tensorboard", images
        self._writers: dict[str, SummaryWriter] = {}
        self._samples: Tensor | None = None  # images that have not been written yet

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        """Write a scalar for each value."""
        self._show_samples()
        for name, value in values.items():
            split, _, metric = name.rpartition("/")
            if split == "epoch":  # the prefix "epoch" is not a split
                split, metric = "", name
            self._writer(split).add_scalar(metric, value, step)

    def log_samples(self, images: Tensor) -> None:
        """Keep the images until the first point is logged, so that writing them does not delay the start of training.

        The images are written as a grid, each with its values scaled to [0, 1].
        """
        if self._images > 0 and images.shape[1] in (1, 3):
            self._samples = images[: self._images].float()

    def _show_samples(self) -> None:
        if self._samples is None:
            return
        images, self._samples = self._samples, None
        low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        self._writer("").add_images("samples/train", (images - low) / (high - low).clamp_min(1e-6))

    def log_confusion(self, counts: Tensor, classes: Sequence[str]) -> None:
        self._writer("").add_image("confusion/test", draw_confusion(counts, classes))

    def finish(self, hyperparameters: Mapping[str, bool | float | str], results: Mapping[str, float]) -> None:
        """Write the settings and the final metrics as a row of the HParams tab."""
        from torch.utils.tensorboard.summary import hparams

        writer = self._writer("")
        for summary in hparams(dict(hyperparameters), dict(results)):
            writer._get_file_writer().add_summary(summary)
        for name, value in results.items():
            writer.add_scalar(name, value)

    def state_dict(self) -> dict[str, Any]:
        """Flush the writers, and return the size of every event file in bytes."""
        self._show_samples()
        for writer in self._writers.values():
            writer.flush()
        return {"sizes": {self._name(path): path.stat().st_size for path in self.paths()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remove the events that were written after the checkpoint; new events are written to new files."""
        self.close()
        self._writers.clear()
        sizes = state.get("sizes", {})
        paths = {self._name(path): path for path in self.paths()}
        if any(name not in paths or paths[name].stat().st_size < size for name, size in sizes.items()):
            log.warning(
                "warning  event files in %s are gone or shorter than they were: points are missing", self._folder
            )
        for name, path in paths.items():
            size = sizes.get(name, 0)
            if size == 0:
                path.unlink()
            elif size < path.stat().st_size:
                os.truncate(path, size)

    def close(self) -> None:
        self._show_samples()
        for writer in self._writers.values():
            writer.close()

    def paths(self) -> list[Path]:
        """Return the existing event files."""
        return [path for path in self._folder.rglob("events.out.tfevents.*") if path.is_file()]

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _writer(self, split: str) -> SummaryWriter:
        if split not in self._writers:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, so only when the first value is written

            # The second and the process id that TensorBoard puts into the name may repeat, as in a container that is
            # restarted at once, and an existing file would be overwritten.
            self._writers[split] = SummaryWriter(str(self._folder / split), filename_suffix=f".{time.time_ns()}")
        return self._writers[split]
