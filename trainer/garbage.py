"""When Python looks for garbage: neither while a command starts nor when it ends.

torch and its compiler make hundreds of thousands of objects that stay. To look through them again and again while they
are imported, and to take them apart before the process ends, takes longer than the first twenty steps of many models.
"""

import atexit
import gc


class Command:
    """What this process does now."""

    waits = False
    ends_quickly = False


def wait_with_garbage() -> None:
    """Until ``collect_garbage`` is called, and at the end of the process."""
    if gc.isenabled():
        gc.disable()
        Command.waits = True
    if not Command.ends_quickly:
        atexit.register(gc.freeze)
        Command.ends_quickly = True


def collect_garbage() -> None:
    """From now on, as ever; but what has been imported meanwhile is not looked at."""
    if Command.waits:
        gc.freeze()
        gc.enable()
        Command.waits = False
