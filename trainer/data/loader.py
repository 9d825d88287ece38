"""Batches of a split on the device, either in memory or streamed; both give the same bits.

The order of an epoch is a pure function of (seed, epoch), so two numbers hold the position in a run: the epoch and the
number of its batches that are done. Several processes cut the same batches into shares.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer.config import RunError
from trainer.data.data import Data, generator
from trainer.data.order import Order
from trainer.data.preprocess import Preprocess
from trainer.data.sources import Inputs, RaggedSource, Resident, Source, Split, TensorSource
from trainer.processes.signals import defer_in_data_worker

MAX_SECONDS = 600  # for a batch in a data worker; a worker that takes longer hangs


class Batch(NamedTuple):
    """The share that one process has of a batch, on its device.

    If a micro-batch has fewer samples than there are processes, the processes without a sample get a copy of its first
    one, which does not count: collectives in the forward pass need the call of the model in every process.
    """

    inputs: Inputs
    targets: Tensor  # as in ``Source``; of mixed classes (batch, classes) float32 shares
    whole: Tensor  # the targets of the whole batch, of all processes
    sizes: tuple[int, ...]  # how many samples of each micro-batch count; 0 for a copy
    num_pieces: int  # into how many pieces the processes and micro-batches cut the whole batch
    all_count: bool  # whether every process has samples that count in every micro-batch of the whole batch

    @property
    def counts(self) -> bool:
        """Whether any sample of this process counts."""
        return any(self.sizes)

    def split(self) -> Iterator[Batch]:
        """Yield the micro-batches of this batch."""
        if len(self.sizes) == 1:
            yield self
            return
        lengths = [size or 1 for size in self.sizes]
        parts = zip(*(tensor.split(lengths) for tensor in (*self.inputs, self.targets)), strict=True)
        for size, (*inputs, targets) in zip(self.sizes, parts, strict=True):
            yield self._replace(inputs=tuple(inputs), targets=targets, sizes=(size,))


class Share(NamedTuple):
    """The part of every batch that a process computes: an equal share of each micro-batch, or one sample more.

    Args:
        micro_batch_size: samples of a micro-batch of all processes; the last micro-batch of a batch may be smaller.
        rank: the number of this process.
        num_processes: the number of processes.
    """

    micro_batch_size: int
    rank: int = 0
    num_processes: int = 1

    def of(self, rows: Tensor) -> Tensor:
        """Return the rows of this process, out of one row for each sample of the whole batch."""
        if self.num_processes == 1:
            return rows
        micro_batches = rows.split(self.micro_batch_size)
        pieces = [(micro, micro.tensor_split(self.num_processes)[self.rank]) for micro in micro_batches]
        return torch.cat([piece if len(piece) else micro[:1] for micro, piece in pieces])

    def batch(self, inputs: Inputs, whole: Tensor) -> Batch:
        """Return the batch of this process.

        Args:
            inputs: of this process's samples.
            whole: the targets of the whole batch.
        """
        full, rest = divmod(whole.shape[0], self.micro_batch_size)
        micro_batches = [self.micro_batch_size] * full + [rest] * (rest > 0)
        sizes = tuple(len(range(self.rank, size, self.num_processes)) for size in micro_batches)
        num_pieces, all_count = self.num_processes * len(sizes), micro_batches[-1] >= self.num_processes
        return Batch(inputs, self.of(whole), whole, sizes, num_pieces, all_count)


class Loader(Protocol):
    """The batches of one split."""

    def __len__(self) -> int:
        """The number of batches in an epoch."""

    def epoch(self, epoch: int = 0, start: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch, from batch ``start`` on."""

    def positions(self, epoch: int, batch: int) -> Tensor:
        """Return the positions of the samples of a batch in their source, int64 on the CPU."""

    def close(self) -> None:
        """End the data workers, if there are any."""


class RawBatch(NamedTuple):
    """The raw samples of a batch that a process has to preprocess, and the targets of the whole batch."""

    positions: Tensor  # of the samples of the whole batch in their source
    whole: Tensor  # the targets of the whole batch
    inputs: Inputs
    # the same of the samples that are mixed in; None and empty without mixing
    partners: Tensor | None = None
    other_whole: Tensor | None = None
    others: Inputs = ()

    @classmethod
    def fetch(cls, source: Source, share: Share, positions: Tensor, partners: Tensor | None) -> RawBatch:
        """Read the process's share of the samples at ``positions`` and at ``partners``."""
        raw = cls(positions, source.targets.index_select(0, positions), source.fetch(share.of(positions)))
        if partners is None:
            return raw
        targets = source.targets.index_select(0, partners)
        return raw._replace(partners=partners, other_whole=targets, others=source.fetch(share.of(partners)))

    def tensors(self) -> list[Tensor]:
        """Return all tensors of the batch."""
        single = (self.positions, self.whole, self.partners, self.other_whole)
        return [*(tensor for tensor in single if tensor is not None), *self.inputs, *self.others]

    def to(self, device: torch.device) -> RawBatch:
        """Return a copy on another device."""

        def move(value: Any) -> Any:
            if isinstance(value, tuple | list):  # the DataLoader makes a list of a tuple
                return tuple(map(move, value))
            return None if value is None else value.to(device, non_blocking=True)

        return RawBatch(*map(move, self))


class _OrderedLoader:
    """What the two loaders share: the order of the batches and the way from a raw batch to a batch."""

    def __init__(
        self, source: Source, order: Order, share: Share, preprocess: Preprocess, device: torch.device
    ) -> None:
        self._source, self._order, self._share, self._preprocess = source, order, share, preprocess
        self._device = device

    def __len__(self) -> int:
        return self._order.num_batches

    def positions(self, epoch: int, batch: int) -> Tensor:
        return self._order.batches(epoch, batch, torch.device("cpu"))[0]

    def close(self) -> None:
        """No-op: only a loader with data workers has something to end."""

    def _batch(self, raw: RawBatch, epoch: int, number: int) -> Batch:
        """Preprocess and mix batch ``number`` of an epoch on the device."""
        share, preprocess, whole = self._share, self._preprocess, raw.whole
        all_keys = self._order.keys(raw.positions, number)
        keys = share.of(all_keys)
        inputs = preprocess(raw.inputs, keys, epoch)
        if raw.partners is not None and raw.other_whole is not None:
            others = preprocess(raw.others, share.of(raw.partners), epoch)
            inputs = preprocess.mixed(inputs, others, keys, epoch)
            whole = preprocess.mixed_targets(whole, raw.other_whole, all_keys, epoch)
        return share.batch(inputs, whole)


class InMemory(_OrderedLoader):
    """Batches of a source that is on the device; a batch is one gather."""

    def epoch(self, epoch: int = 0, start: int = 0) -> Generator[Batch, None, None]:
        for number, positions in enumerate(self._order.batches(epoch, start, self._device), start):
            partners = self._preprocess.partners(self._order.keys(positions, number), epoch)
            yield self._batch(RawBatch.fetch(self._source, self._share, positions, partners), epoch, number)


class Streamed(_OrderedLoader):
    """Batches of a source that a DataLoader reads in ``workers`` processes; preprocessing happens on the device."""

    def __init__(
        self, source: Source, order: Order, share: Share, preprocess: Preprocess, device: torch.device, workers: int
    ) -> None:
        super().__init__(source, order, share, preprocess, device)
        self._sampler = _EpochSampler(order, preprocess)
        self._copy_stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._loader = DataLoader(
            _Batches(source, share),
            sampler=self._sampler,
            batch_size=None,  # the sampler's items are whole batches already
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else making an iterator would draw from the global one
            worker_init_fn=defer_in_data_worker,
            timeout=MAX_SECONDS if workers else 0,
        )

    def epoch(self, epoch: int = 0, start: int = 0) -> Generator[Batch, None, None]:
        self._sampler.epoch, self._sampler.start = epoch, start
        batches = iter(self._loader)
        for number in itertools.count(start):
            with watched_workers(fetching=self._loader.num_workers > 0):
                raw = next(batches, None)
            if raw is None:
                return
            yield self._batch(self._on_device(raw), epoch, number)

    def _on_device(self, raw: RawBatch) -> RawBatch:
        """Copy a batch to the device. A GPU copies on a second stream, while it still computes the step before."""
        if self._copy_stream is None:
            return raw.to(self._device)
        with torch.cuda.stream(self._copy_stream):
            moved = raw.to(self._device)
        now = torch.cuda.current_stream(self._device)
        now.wait_stream(self._copy_stream)
        for tensor in moved.tensors():
            tensor.record_stream(now)  # keeps the allocator from reusing the memory before the step is over
        return moved

    def close(self) -> None:
        """Ask the data workers to end, then kill those that hang: Python would wait for them at its exit."""
        iterator = getattr(self._loader, "_iterator", None)  # torch has no public way
        if iterator is not None:
            iterator._shutdown_workers()
            for worker in iterator._workers:
                worker.kill()


@contextlib.contextmanager
def watched_workers(*, fetching: bool = False) -> Iterator[None]:
    """Turn the exception for a data worker that failed, died or hangs into a RunError with the known details.

    torch reports a dead worker from a signal handler, so the exception may come anywhere in the main process.

    Args:
        fetching: the block waits for a batch of the workers, so a broken connection means a dead worker as well.
    """
    try:
        yield
    except Exception as error:
        report = str(error)
        if "in DataLoader worker process" in report:
            if isinstance(error, RunError):  # its message is one line, before which torch has put a traceback
                raise RunError(report.rstrip().rpartition("RunError: ")[2]) from error
            raise RunError(f"a data worker failed: {_in_a_worker(report)}") from error
        if fetching and isinstance(error, (EOFError, ConnectionError, FileNotFoundError)):
            report = "DataLoader worker ended before its batch was read"
        if not report.startswith("DataLoader "):
            raise
        free = shutil.disk_usage("/dev/shm").free >> 20 if Path("/dev/shm").is_dir() else None
        memory = "" if free is None else f" ({free:,} MiB free in /dev/shm)"
        what = " ".join(report.partition("Details are lost")[0].split()).rstrip(".")
        advice = f"out of memory? fewer dataset.workers need less{memory}; with dataset.workers=0 the message says more"
        raise RunError(f"a data worker failed: {what}; {advice}") from error


def _in_a_worker(report: str) -> str:
    """Extract an error and its place from the text of a worker's traceback."""
    lines = report.rstrip().splitlines()
    start = max((number + 1 for number, line in enumerate(lines) if line.startswith("    ")), default=0)
    places = re.findall(r'^  File "(.+)", line (\d+)', report, flags=re.MULTILINE)
    place = f" in {places[-1][0]}, line {places[-1][1]}" if places else ""
    return " ".join(" ".join(lines[start:]).split()) + place


class _EpochSampler:
    """Give the DataLoader the positions of each batch of an epoch, and those of the samples that are mixed in."""

    def __init__(self, order: Order, preprocess: Preprocess) -> None:
        self.order, self.preprocess, self.epoch, self.start = order, preprocess, 0, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        epoch = self.epoch
        for number, positions in enumerate(self.order.batches(epoch, self.start, torch.device("cpu")), self.start):
            yield positions, self.preprocess.partners(self.order.keys(positions, number), epoch)

    def __len__(self) -> int:
        return self.order.num_batches - self.start


class _Batches(Dataset[RawBatch]):
    """A data set for the workers of a DataLoader, whose items are a process's shares of whole batches."""

    def __init__(self, source: Source, share: Share) -> None:
        self._source, self._share = source, share

    def __getitem__(self, item: tuple[Tensor, Tensor | None]) -> RawBatch:
        return RawBatch.fetch(self._source, self._share, *item)


class Loaders(NamedTuple):
    """The loaders of a run, one for each split."""

    train: Loader
    val: Loader | None
    test: Loader

    def close(self) -> None:
        """End the data workers of every loader."""
        for loader in self:
            if loader is not None:
                loader.close()


def make_loaders(
    data: Data,
    device: torch.device,
    *,
    seed: int,
    batch_size: int,
    limit_batches: int | None,
    overfit_batches: int | None,
    share: Share,
    evaluation_batch_size: int | None = None,
) -> Loaders:
    """Make the loaders of a data set: train is shuffled and augmented with the seed, the other splits keep their order.

    Args:
        data: the data set.
        device: the device of the batches.
        seed: the seed of the order and the augmentation.
        batch_size: samples in a training batch of all processes.
        limit_batches: the maximum number of batches of each split.
        overfit_batches: train on the same first batches in every epoch, unshuffled, and use them as val too.
        share: this process's share of every training batch; the other splits have no micro-batches.
        evaluation_batch_size: the batch size of the other splits, ``batch_size`` if None. It changes results only by
            rounding.
    """
    on_device: dict[int, Resident] = {}  # splits share a source, which is copied to the device once

    def load(split: Split, shuffle: int | None, share: Share, size: int) -> Loader:
        source, limit = split.source, limit_batches
        if limit is not None and shuffle is None:
            split, limit = _spread(split, limit * batch_size), None
        weights = (
            _balancing_weights(split.targets, len(data.spec.classes)) if data.balanced and shuffle is not None else None
        )
        order = Order(split.positions, size, shuffle, limit, lengths=split.lengths, weights=weights)
        preprocess = Preprocess(data, data.train.positions, shuffle, device)
        if data.in_memory and isinstance(source, TensorSource | RaggedSource):
            resident = on_device.setdefault(id(source), source.to(device))
            return InMemory(resident, order, share, preprocess, device)
        return Streamed(source, order, share, preprocess, device, data.workers)

    larger = evaluation_batch_size or batch_size
    evaluated = share._replace(micro_batch_size=larger)
    test = load(data.test, None, evaluated, larger)
    if overfit_batches is not None:
        shuffled = torch.randperm(len(data.train), generator=generator(seed, "overfit"))
        few = load(data.train.take(shuffled[: overfit_batches * batch_size]), None, share, batch_size)
        return Loaders(few, few, test)
    val = None if data.val is None else load(data.val, None, evaluated, larger)
    return Loaders(load(data.train, seed, share, batch_size), val, test)


def _spread(split: Split, count: int) -> Split:
    """Take at most ``count`` samples, evenly spread: the first samples of a sorted split have only one class."""
    if count >= len(split):
        return split
    return split.take(torch.arange(count) * len(split) // count)


def _balancing_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Return (samples,) weights with which every class that has samples is drawn equally often."""
    return 1 / targets.bincount(minlength=num_classes).double()[targets]
