"""Garbage is collected from the first step on, but not among what was imported before."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

from tests.conftest import Train

# What the collector does when the modules are there and in the first step; and a cycle of the user's is still ended.
CODE = """
import gc, sys
def see(when):
    print(when, gc.isenabled(), gc.get_freeze_count() > 1000)
def make():
    node = Node()
    node.itself = node
class Node:
    def __del__(self):
        print("ended")
import cli
import trainer.launch
from trainer import config
before = config.Settings.replace
def replace(self, **changes):
    from torch.optim.optimizer import register_optimizer_step_post_hook
    see("start")
    register_optimizer_step_post_hook(lambda *_: (see("step"), make()))
    config.Settings.replace = before
    return before(self, **changes)
config.Settings.replace = replace
sys.exit(cli.main())
"""


def test_collector_sleeps_at_the_start_and_leaves_what_was_imported_alone(tmp_path: Path) -> None:
    words = [sys.executable, "-c", CODE, "max_steps=1", "model.channels=[2]", "logger=none"]
    told = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.splitlines()
    seen = [line for line in told if line.split()[0] in ("start", "step", "ended")]
    assert seen == ["start False False", "step True True", "ended"]


def test_a_command_within_a_program_leaves_the_collector_on(train: Train) -> None:
    assert train("max_steps=1", "model.channels=[2]").code == 0
    assert gc.isenabled()
    assert train("max_steps=0").code == 2
    assert gc.isenabled()
