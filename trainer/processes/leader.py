"""Notes that outlive a restart of the processes under torchrun. No torch until there are several."""

from __future__ import annotations

import contextlib
from typing import Any

from trainer.processes.world import world


def noted(name: str) -> Any:
    """What an earlier attempt has noted: ``ended``, the code that every attempt would end with, or ``sweep_dir``."""
    here = world()
    if here is None or here.attempt == 0:
        return None
    from trainer.processes.team import Team, processes

    crew = processes()
    return crew.noted(name) if isinstance(crew, Team) else None


def note(name: str, value: str) -> None:
    """Something for an attempt after this one."""
    from trainer.processes.team import Team, processes

    crew = processes()
    if isinstance(crew, Team):
        crew.note(name, value)


def dismiss(code: int, *, final: bool, stopped: bool) -> None:
    """Tell the others that the first process has no more jobs.

    Args:
        code: what they are to end with.
        final: another attempt would end alike.
        stopped: by a signal, of which the others have heard too, so that they may never come.
    """
    with contextlib.suppress(Exception):  # a signal may have cut the import of torch in two
        from trainer.processes.team import Team, have_met, processes

        if stopped and not have_met():
            return
        crew = processes()
        if isinstance(crew, Team):
            crew.dismiss(code, final=final)
