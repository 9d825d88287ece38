"""The processes that follow rank 0: they take part in its jobs and write nothing."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings

from trainer.build import assemble
from trainer.compose import plugins
from trainer.config import ConfigError, NotFiniteError, Settings
from trainer.data.loader import watched_workers
from trainer.engine import Engine
from trainer.processes.signals import INTERRUPTED, Interrupts, Stopped
from trainer.processes.store import LostError
from trainer.processes.team import Follower, get_team
from trainer.reporting import one_line


def follow() -> int:
    """Take part in every job of rank 0 and return the exit code that rank 0 announces after the last job."""
    team = get_team()
    assert isinstance(team, Follower)
    _silence()
    try:
        while not isinstance(settings := team.wait_for_job(), int):
            _take_part(settings, team)
            team.wait_for_end()
    except LostError:
        return 1
    except KeyboardInterrupt as stopped:
        return getattr(stopped, "code", INTERRUPTED)
    return settings


def _take_part(settings: Settings, team: Follower) -> None:
    """Do this process's part of a job, and tell rank 0 about errors, which rank 0 reports.

    Raises:
        Stopped: a signal has arrived before the job began.
    """
    begun = False
    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        try:
            stack.enter_context(watched_workers())
            plugins.require(settings.plugins)
            parts = assemble(settings)
            stack.callback(parts.loaders.close)
            begun = team.report_ready(parts.fingerprint, interrupts)
            if not begun:
                return
            with (
                team.join_group(parts.placement.device, interrupts) as group,
                contextlib.closing(Engine(parts, settings, group, interrupts)) as engine,
            ):
                state = group.broadcast(None)
                if state is not None:
                    engine.load(state)
                engine.fit()
                engine.test(None)
        except ConfigError as error:
            team.report_ready({}, interrupts, error.problems)
        except NotFiniteError:
            pass  # raised in every process at once; rank 0 explains it
        except Stopped:
            if not begun:
                raise
        except Exception as error:
            if isinstance(error, LostError) or interrupts.asked is None:
                team.report_failure(one_line(error), error)
            else:  # torchrun has sent a signal to every process, because one has failed
                interrupts.check()


def _silence() -> None:
    """Leave the output to rank 0. The standard error of torch's own code still shows a crash."""
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
