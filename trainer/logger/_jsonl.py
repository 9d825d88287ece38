"""metrics.jsonl: a line for each logged point, in every run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from trainer.logger import Logger


class JSONL(Logger):
    """``{"step": …, "epoch": …, "train/loss": …}``, written out at once; JSON has no inf and nan, so null.

    Args:
        run_dir: where the file goes.
    """

    def __init__(self, run_dir: Path) -> None:
        self._file = (run_dir / "metrics.jsonl").open("a", encoding="utf-8")

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        """Append a line."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": step, "epoch": epoch, **finite}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
