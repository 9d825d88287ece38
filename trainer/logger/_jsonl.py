"""The logger that writes metrics.jsonl in every run: one line for each logged point."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.logger import Logger
from trainer.runs.directory import METRICS

log = logging.getLogger("trainer")


class JSONL(Logger):
    """Write lines ``{"step": …, "epoch": …, "train/loss": …}`` without buffering; inf and NaN become null.

    A line that cannot be written because the disk is full is written together with the next line, so that no line is
    lost and the file contains only complete lines.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / METRICS
        self._file = self._path.open("ab", buffering=0)
        self._pending = b""

    def log(self, values: Mapping[str, float], step: int, epoch: int) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._pending += json.dumps({"step": step, "epoch": epoch, **finite}).encode() + b"\n"
        self._flush()

    def state_dict(self) -> dict[str, Any]:
        """Write pending lines, and return the size of the file in bytes."""
        self._flush()
        return {"size": self._file.tell()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remove the lines that were logged after the checkpoint."""
        size, wanted = self._file.seek(0, 2), state.get("size", 0)
        if size < wanted:
            log.warning("warning  %s is shorter than it was: points are missing", self._path)
            wanted = self._path.read_bytes().rfind(b"\n") + 1
        self._file.truncate(wanted)
        self._file.seek(0, 2)

    def paths(self) -> list[Path]:
        return [self._path]

    def close(self) -> None:
        self._file.close()

    def _flush(self) -> None:
        size = self._file.seek(0, 2)
        try:
            rest = self._pending
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(size)
            raise
        self._pending = b""
