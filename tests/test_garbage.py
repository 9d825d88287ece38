"""Garbage is collected from the first step on, but not among what was imported before."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

from tests.conftest import Train
from tests.helpers import looked_into

# What the collector does when the modules are there and in the first step; and a cycle of the user's is still ended.
LOOK = """
import gc
def see(when):
    print(when, gc.isenabled(), gc.get_freeze_count() > 1000)
class Node:
    def __del__(self):
        print("ended")
def make():
    node = Node()
    node.itself = node
def look():
    from torch.optim.optimizer import register_optimizer_step_post_hook
    see("start")
    register_optimizer_step_post_hook(lambda *_: (see("step"), make()))
"""


def test_collector_sleeps_at_the_start_and_leaves_what_was_imported_alone(tmp_path: Path) -> None:
    words = [sys.executable, "-c", looked_into(LOOK), "max_steps=1", "model.channels=[2]", "logger=none"]
    told = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.splitlines()
    seen = [line for line in told if line.split()[0] in ("start", "step", "ended")]
    assert seen == ["start False False", "step True True", "ended"]


def test_a_command_within_a_program_leaves_the_collector_on(train: Train) -> None:
    assert train("max_steps=1", "model.channels=[2]").code == 0
    assert gc.isenabled()
    assert train("max_steps=0").code == 2
    assert gc.isenabled()
