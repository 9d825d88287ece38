"""When Python looks for garbage: neither while a command starts nor when it ends.

torch and its compiler make a million objects that stay. To look through them again and again while they are imported
takes 0.4 s, and to take them apart before the process ends 0.5 s, of a command that may take 4 s in all.
"""

import atexit
import gc


def wait_with_garbage() -> None:
    """Until ``collect_garbage`` is called, and not at the end of the process."""
    gc.disable()
    atexit.register(gc.freeze)


def collect_garbage() -> None:
    """From now on, as ever."""
    gc.enable()
