"""The config of a run: its settings, the types of its keys, and the checks. Imports neither torch nor Hydra."""

from trainer.config.errors import ConfigError as ConfigError
from trainer.config.errors import NotFiniteError as NotFiniteError
from trainer.config.errors import RunError as RunError
from trainer.config.errors import SweepError as SweepError
from trainer.config.settings import GROUPS as GROUPS
from trainer.config.settings import Component as Component
from trainer.config.settings import Job as Job
from trainer.config.settings import Settings as Settings
from trainer.config.types import Betas as Betas
from trainer.config.types import Duration as Duration
from trainer.config.types import Fraction as Fraction
from trainer.config.types import NonNegativeFloat as NonNegativeFloat
from trainer.config.types import NonNegativeInt as NonNegativeInt
from trainer.config.types import OpenUnitInterval as OpenUnitInterval
from trainer.config.types import PositiveFloat as PositiveFloat
from trainer.config.types import PositiveInt as PositiveInt
from trainer.config.types import Processes as Processes
from trainer.config.types import Threads as Threads
from trainer.config.types import UnitInterval as UnitInterval
