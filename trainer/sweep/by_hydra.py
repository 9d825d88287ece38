"""Run the commands that Hydra itself handles: ``--cfg``, ``--info``, ``--hydra-help``, and third-party sweepers."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from hydra import version
from hydra._internal.utils import _run_hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from trainer.commands.exit_code import report
from trainer.compose import plugins
from trainer.compose.options import Command
from trainer.compose.resolve import resolve_job
from trainer.compose.safety import compose_error, plain_config
from trainer.config import Job, SweepError
from trainer.config.yaml_file import config_dir
from trainer.processes.signals import Stopped
from trainer.processes.world import environment_variables
from trainer.worker import train_job


def run_hydra(command: Command) -> None:
    """Run a checked command with Hydra's own application.

    Raises:
        ConfigError: Hydra rejects the command.
        SweepError: at least one run of a sweep failed or was stopped.
    """
    options, codes = command.options, [0]
    if options.config_path is not None:
        options.config_path = str(Path(options.config_path).absolute())  # Hydra takes it relative to this program

    def train(config: DictConfig) -> float | None:
        try:
            summary = train_job(_job(config))
            best: float | None = summary["best"].get(summary["monitor"])
            return best  # the objective for a sweeper
        except Stopped as stopped:
            if not stopped.by_clock:  # max_time ends one job; any other signal ends all jobs
                raise
            codes.append(stopped.code)
        except Exception as error:
            codes.append(report(error))
        return None

    version.setbase("1.3")
    with environment_variables({"HYDRA_FULL_ERROR": "1"}):  # Hydra raises its errors instead of printing them
        try:
            _run_hydra(options, command.parser, train, str(config_dir()), "train")
        except BrokenPipeError:
            raise
        except Exception as error:
            raise compose_error(error) from error
    if max(codes):
        raise SweepError(max(codes))


def _job(config: DictConfig) -> Job:
    """Return the job for a config that Hydra, perhaps with a third-party sweeper, composed from checked overrides.

    Raises:
        ConfigError: the config has mistakes; the error has one line for each.
    """
    hydra, plain = HydraConfig.get(), plain_config(config)
    wanted = [plain["plugins"]] if isinstance(plain["plugins"], str) else plain["plugins"]
    plugins.require(wanted)
    plain["plugins"] = [*wanted, *plugins.from_environment()]
    words = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    assert isinstance(words, list)
    job = resolve_job(plain, words)
    if hydra.mode != RunMode.MULTIRUN or job.fixed_run_dir:
        return job
    from trainer.sweep.folder import varied_in  # not for --cfg and --info, which answer at once

    job = job.replace(run_dir=os.path.relpath(hydra.runtime.output_dir))
    return dataclasses.replace(job, fixed_run_dir=True, varied=varied_in(Path(hydra.sweep.dir), job.words))
