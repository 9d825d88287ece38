"""Write run directories without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


def write_run(
    folder: Path,
    words: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    summary: Mapping[str, Any] | None = None,
    points: Sequence[Mapping[str, Any]] = (),
    started: str = "2026-07-01T10:00:00",
) -> Path:
    """Write the files of a run and return its folder; without a summary the run counts as killed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(config or {}), sort_keys=False), encoding="utf-8")
    (folder / "overrides.yaml").write_text(yaml.safe_dump(list(words)), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps({"started": started}), encoding="utf-8")
    lines = "".join(f"{json.dumps(point)}\n" for point in points)
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder
