"""metrics.jsonl: every line is JSON."""

from __future__ import annotations

import json
from pathlib import Path

from tests.logger.helpers import TRAINING, VALIDATION
from trainer.logger._jsonl import JSONL


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
