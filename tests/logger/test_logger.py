"""What holds for every logger."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.logger.helpers import build, run_through
from trainer.logger import LOGGERS


@pytest.mark.parametrize("name", LOGGERS.names())
def test_every_logger_takes_a_whole_run_and_one_that_failed_at_once(name: str, tmp_path: Path) -> None:
    whole, failed = tmp_path / "whole", tmp_path / "failed"
    for folder in (whole, failed):
        folder.mkdir()
    run_through(build(name, whole))
    build(name, failed).close()
    written = [*whole.rglob("*")]
    assert bool(written) is (name != "none")
    assert all(path.stat().st_size > 0 for path in written if path.is_file())
