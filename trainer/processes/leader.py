"""Messages of rank 0 to all other ranks (the followers) and to later attempts (after a restart by torchrun).

torch is imported only if there are several processes.
"""

from __future__ import annotations

import contextlib
from typing import Any

from trainer.processes.world import current_world


def read_note(name: str) -> Any:
    """Return a value that an earlier attempt has saved for later attempts, or None.

    Args:
        name: ``ended`` for the exit code with which every attempt would end, or ``sweep_dir``.
    """
    world = current_world()
    if world is None or world.attempt == 0:
        return None
    from trainer.processes.team import Leader, get_team

    team = get_team()
    return team.read_note(name) if isinstance(team, Leader) else None


def write_note(name: str, value: str) -> None:
    """Save a value for later attempts; do nothing if this process was started alone or is a follower."""
    from trainer.processes.team import Leader, get_team

    team = get_team()
    if isinstance(team, Leader):
        team.write_note(name, value)


def dismiss_followers(code: int, *, final: bool, stopped: bool) -> None:
    """Tell the followers that rank 0 has no more jobs.

    Args:
        code: the exit code of the followers.
        final: whether every later attempt would end with the same exit code.
        stopped: whether a signal has ended the command. If so, and the processes have not met yet, do nothing:
            followers that received the signal too may never answer.
    """
    with contextlib.suppress(Exception):  # a signal may have interrupted the import of torch
        from trainer.processes.team import Leader, get_team, have_met

        if stopped and not have_met():
            return
        team = get_team()
        if isinstance(team, Leader):
            team.dismiss_followers(code, final=final)
