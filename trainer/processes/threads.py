"""How the threads of an operation wait for their next work."""

import os

# libgomp, the OpenMP library of torch, waits 300,000 rounds by default. docs/speed.md has what other numbers cost.
ROUNDS = "10000"
CHOICES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # the environment variables in which a user has chosen otherwise


def limit_spinning() -> None:
    """Let a thread that waits for work sleep after some microseconds; call before the import of torch.

    By default the threads of torch spin for milliseconds between two operations. Two runs on the same cores then take
    the cores from each other by waiting, and each lasts several times as long as it does alone.
    """
    if not any(name in os.environ for name in CHOICES):
        os.environ["GOMP_SPINCOUNT"] = ROUNDS
