"""The key-value store through which the processes of a run find each other and exchange messages."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from trainer.config import RunError
from trainer.processes.world import World

# torch has no type annotations for these classes
PrefixStore: Any = dist.PrefixStore  # type: ignore[attr-defined]
TCPStore: Any = dist.TCPStore  # type: ignore[attr-defined]


class LostError(RunError):
    """Another process has died, or does not answer in time."""


class Store:
    """Keys with JSON values that every process of a run can read and write.

    Every method raises ``LostError`` if the process that hosts the store has ended.

    Args:
        store: a store of ``torch.distributed``.
    """

    def __init__(self, store: Any) -> None:
        self.torch_store = store

    def below(self, prefix: str) -> Store:
        """Return the part of this store whose keys begin with ``prefix``."""
        return Store(PrefixStore(prefix, self.torch_store))

    def set(self, key: str, value: Any) -> None:
        """Store a value under a key."""
        with _raising_lost():
            self.torch_store.set(key, json.dumps(value))

    def has(self, key: str) -> bool:
        """Return whether a key has a value."""
        with _raising_lost():
            found: bool = self.torch_store.check([key])
        return found

    def get(self, key: str) -> Any:
        """Return the value of a key; if the key has none yet, wait for it."""
        with _raising_lost():
            return json.loads(self.torch_store.get(key))

    def count(self, key: str) -> int:
        """Increment a counter, which starts at 0, and return its new value."""
        with _raising_lost():
            return int(self.torch_store.add(key, 1))

    def wait(self, *keys: str, deadline: float | None = None, what: str = "another process") -> None:
        """Wait until one of the keys has a value. Signals interrupt the wait.

        Args:
            keys: the keys to wait for.
            deadline: the latest ``time.monotonic()``; None for no limit.
            what: the process that has to write the key, for the error message.

        Raises:
            LostError: the deadline has passed.
        """
        pause = 0.005
        while not any(self.has(key) for key in keys):
            if deadline is not None and time.monotonic() > deadline:
                raise LostError(f"timed out waiting for {what}")
            time.sleep(pause)
            pause = min(2 * pause, 0.1)


@contextlib.contextmanager
def _raising_lost() -> Iterator[None]:
    """Turn an error of torch's store within this context into a ``LostError``."""
    try:
        yield
    except dist.DistError as error:
        raise LostError("the store where all processes meet is gone") from error


def connect(world: World) -> Any:
    """Return a connection to torch's store at the address of a run; rank 0 hosts the store unless torchrun does.

    Raises:
        LostError: the address cannot be reached.
    """
    try:
        return TCPStore(
            world.host,
            world.port,
            is_master=not world.hosted and world.rank == 0,
            timeout=timedelta(minutes=5),
            wait_for_workers=False,
        )
    except dist.DistError as error:
        raise LostError(f"rank {world.rank} cannot reach {world.host}:{world.port}, where all meet") from error


def meet(world: World, store: Store, patience: float) -> str:
    """Wait until all processes of this attempt have connected, and return the name of the attempt.

    The store may still hold keys of earlier attempts. Each follower therefore writes a random word, the leader writes
    the name of the attempt under this word, and the follower confirms the name.

    Args:
        world: the rank of this process and the world size.
        store: the store of all attempts.
        patience: seconds to wait for the other processes.

    Raises:
        LostError: a process does not connect in time.
    """
    deadline = time.monotonic() + patience
    if world.rank > 0:
        word = uuid.uuid4().hex
        store.set(f"hello/{world.rank}", word)
        store.wait(f"welcome/{word}", deadline=deadline, what="rank 0")
        name: str = store.get(f"welcome/{word}")
        store.set(f"{name}/here/{world.rank}", True)
        return name
    name = f"attempt{store.count('attempts')}"
    missing, welcomed = set(range(1, world.size)), set[str]()
    while missing:
        if time.monotonic() > deadline:
            ranks = ", ".join(map(str, sorted(missing)))
            raise LostError(f"timed out waiting for rank {ranks} to start (device.timeout)")
        for rank in sorted(missing):
            word = store.get(f"hello/{rank}") if store.has(f"hello/{rank}") else ""
            if word and word not in welcomed:
                store.set(f"welcome/{word}", name)
                welcomed.add(word)
            if store.has(f"{name}/here/{rank}"):
                missing.remove(rank)
        time.sleep(0.02)
    return name
