"""The front door: Hydra composes configs/, ``trainer.config`` checks, ``trainer.run`` trains. No torch here."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from trainer.config import ConfigError, compose_error, from_hydra


def config_dir() -> str:
    """The folder of YAML files: inside the installed package, or beside this file in a checkout."""
    here = Path(__file__).resolve().parent
    installed = here / "trainer" / "configs"
    return str(installed if installed.is_dir() else here / "configs")


def main() -> int:
    """The command ``train``: run it and return its exit code; every mistake is a line on stderr."""
    stack_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    codes = [0]

    def train(config: DictConfig) -> float | None:
        """One job: check its config, run it, and hand the best score to a sweeper."""
        try:
            hydra_config = HydraConfig.get()
            overrides = list(hydra_config.overrides.task)
            settings, typed = from_hydra(config, overrides)
            sweep = hydra_config.mode == RunMode.MULTIRUN
            if sweep and "run_dir" not in typed:
                settings = settings.replace(run_dir=os.path.relpath(hydra_config.runtime.output_dir))
            from trainer.run import run  # torch, 1.5 s: only once the config has proved right

            summary = run(settings, overrides, fixed_run_dir=sweep or "run_dir" in typed)
        except Exception as error:
            if stack_wanted:
                raise
            codes.append(report(error))
            return None
        return score(summary)

    _mend_argparse()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors over instead of printing them
    try:
        hydra.main(version_base="1.3", config_path=config_dir(), config_name="train")(train)()
    except KeyboardInterrupt:
        print("train: interrupted", file=sys.stderr)
        codes.append(130)
    except BrokenPipeError:
        codes.append(1)
    except Exception as error:  # jobs report their own, so this is about the command, whatever its type
        if stack_wanted:
            raise
        codes.append(report(compose_error(error)))
    finally:
        os.environ["HYDRA_FULL_ERROR"] = str(int(stack_wanted))
        _leave_a_broken_pipe()
    return max(codes)


def report(error: Exception) -> int:
    """Print an error's lines and return the exit code: 2 for the user's mistakes, 1 for everything else."""
    problems = error.problems if isinstance(error, ConfigError) else [str(error)]
    for problem in problems:
        print(f"train: error: {problem}", file=sys.stderr)
    return 2 if isinstance(error, ConfigError) else 1


def score(summary: dict[str, Any]) -> float | None:
    """The best value of the monitored metric, which a sweeper may optimize."""
    best: float | None = summary["best"].get(summary["monitor"])
    return best


def _leave_a_broken_pipe() -> None:
    """Where nobody reads our output any more (``train --help | head``), say nothing about it at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _mend_argparse() -> None:
    """Let Hydra 1.3 run on Python 3.14, whose argparse wants a help text where Hydra has an object."""
    check = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None:
        return

    def lenient(self: argparse.ArgumentParser, action: argparse.Action) -> None:
        if action.help is not None and not isinstance(action.help, str):
            action.help = "Install or uninstall shell completion"
        check(self, action)

    argparse.ArgumentParser._check_help = lenient  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
