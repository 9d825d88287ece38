"""The sweepers under the name that Hydra takes plugins from; the code is in ``trainer.sweep.hydra_sweepers``."""

from hydra.core.plugins import Plugins

from trainer.sweep import hydra_sweepers


class GridSweeper(hydra_sweepers.GridSweeper):
    """``hydra/sweeper=basic``, in the place of Hydra's own, which is the default and so needs no line in a file."""


class OptunaSweeper(hydra_sweepers.OptunaSweeper):
    """``hydra/sweeper=optuna``."""


def register() -> None:
    """Make the sweepers known where Hydra does not find them by itself, as in an editable install."""
    for sweeper in (GridSweeper, OptunaSweeper):
        Plugins.instance().register(sweeper)
