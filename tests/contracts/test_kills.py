"""A few of the kills that ``python -m tests.kills`` does by the hundred: real runs, killed and resumed."""

from __future__ import annotations

import random
import signal

import pytest

from tests import kills


@pytest.mark.parametrize(
    ("scenario", "most"), [("cnn", 1), pytest.param("cnn, onecycle, ema, streamed", 3, marks=pytest.mark.slow)]
)
def test_a_run_that_is_killed_ends_as_if_nobody_had(scenario: str, most: int) -> None:
    wanted, seconds = kills.undisturbed(scenario)
    assert len(wanted["metrics"]) > 10 and wanted["summary"]["state"] == "finished"
    kills.survive(scenario, random.Random(f"{scenario} {most}"), wanted, seconds, signal.SIGKILL, most)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("scenario", kills.SCENARIOS)
def test_so_does_every_scenario(scenario: str, number: signal.Signals) -> None:
    wanted, seconds = kills.undisturbed(scenario)
    for seed in range(3):
        kills.survive(scenario, random.Random(seed), wanted, seconds, number)
