"""When Python looks for garbage: not while a command starts.

torch and its compiler make hundreds of thousands of objects that stay. To look through them again and again while they
are imported, and once more when the process ends, takes longer than the first twenty steps of many models.
"""

import gc


class Command:
    """What this process does now."""

    waits = False


def wait_with_garbage() -> None:
    """Until ``collect_garbage`` is called."""
    if gc.isenabled():
        gc.disable()
        Command.waits = True


def collect_garbage() -> None:
    """From now on, as ever; but what has been imported meanwhile is not looked at, also at the end of the process."""
    if Command.waits:
        gc.freeze()
        gc.enable()
        Command.waits = False
