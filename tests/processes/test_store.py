"""The store in which processes meet: threads stand for them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from trainer.processes.store import LostError, Store, TCPStore, meet
from trainer.processes.world import World


@pytest.fixture
def store() -> Store:
    return Store(TCPStore("localhost", 0, is_master=True, wait_for_workers=False))


def member(rank: int, size: int = 3) -> World:
    return World(rank, size, rank, size, "localhost", 0, hosted=True, attempt=0, most_attempts=0)


def connection(store: Store) -> Store:
    return Store(store.torch_store.clone())


def test_values_are_read_as_they_were_written(store: Store) -> None:
    assert not store.has("key")
    store.set("key", {"a": [1, None, "ü"]})
    assert store.has("key") and store.get("key") == {"a": [1, None, "ü"]}
    assert [store.count("counter") for _ in range(3)] == [1, 2, 3]


def test_a_part_has_keys_of_its_own(store: Store) -> None:
    inner = store.below("attempt1").below("0")
    inner.set("over", True)
    assert store.has("attempt1/0/over") and not store.below("attempt1").below("1").has("over")


def test_a_wait_ends_with_any_of_its_keys_or_with_its_deadline(store: Store) -> None:
    store.set("b", 1)
    store.wait("a", "b")
    with pytest.raises(LostError, match=r"^timed out waiting for rank 1$"):
        store.wait("a", deadline=time.monotonic() + 0.05, what="rank 1")


def test_errors_of_torch_say_that_the_store_is_gone() -> None:
    class Broken:
        def check(self, keys: list[str]) -> bool:
            raise dist.DistNetworkError("Connection reset by peer")

    with pytest.raises(LostError, match="the store where all processes meet is gone"):
        Store(Broken()).has("key")


def test_the_processes_of_an_attempt_share_a_name_whatever_earlier_attempts_have_left(store: Store) -> None:
    for number in (1, 2):
        with ThreadPoolExecutor(3) as pool:
            names = {*pool.map(lambda rank: meet(member(rank), connection(store), 30.0), range(3))}
        assert names == {f"attempt{number}"}


def test_a_process_that_does_not_come_is_named(store: Store) -> None:
    with pytest.raises(LostError, match=r"^timed out waiting for rank 1, 2 to start \(device\.timeout\)$"):
        meet(member(0), store, 0.05)
    with pytest.raises(LostError, match=r"^timed out waiting for rank 0$"):
        meet(member(1), store, 0.05)
