"""The types of config keys: numbers with bounds, and durations.

The keys of a component may have these types or any other type that msgspec supports.
"""

from __future__ import annotations

import sys
from typing import Annotated

from msgspec import Meta

MAX_INT = 2**63 - 1
MAX_FLOAT = sys.float_info.max
PositiveInt = Annotated[int, Meta(ge=1, le=MAX_INT)]
NonNegativeInt = Annotated[int, Meta(ge=0, le=MAX_INT)]
PositiveFloat = Annotated[float, Meta(gt=0, le=MAX_FLOAT)]
NonNegativeFloat = Annotated[float, Meta(ge=0, le=MAX_FLOAT)]
Fraction = Annotated[float, Meta(ge=0, lt=1)]
Threads = Annotated[int, Meta(ge=1, le=1024)]
Processes = Annotated[int, Meta(ge=1, le=1024)]
UnitInterval = Annotated[float, Meta(ge=0, le=1)]
OpenUnitInterval = Annotated[float, Meta(gt=0, lt=1)]
Betas = Annotated[list[Fraction], Meta(min_length=2, max_length=2)]
Duration = Annotated[
    str,
    Meta(
        pattern=r"^(?=.*[1-9])(\d{1,5}d)?(\d{1,5}h)?(\d{1,5}m)?(\d{1,5}s)?$",
        description="days, hours, minutes and seconds such as 1d12h, 1h30m or 90s",
    ),
]
