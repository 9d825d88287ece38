"""Load the batches of a split onto the device, from memory or streamed; both give bit-identical batches.

The order of an epoch is a pure function of (seed, epoch), so the position in a run is two numbers: the epoch and the
number of its batches that are done. All processes iterate over the same batches, and each loads its share of a batch.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer.data.data import Data, generator
from trainer.data.data_workers import initializer, starting_workers, watched_workers
from trainer.data.order import Order
from trainer.data.preprocess import Preprocess
from trainer.data.random_numbers import seeded
from trainer.data.sources import Inputs, RaggedSource, Resident, Source, Split, TensorSource

WITHOUT_DRAWS = (TensorSource, RaggedSource)  # a subclass may draw random numbers
DEVICE_SHARE = 0.5  # share of the free memory of a GPU that samples may take; the other half is for model and steps
MAX_SECONDS = 600  # the time limit for a batch; a data worker that takes longer is considered hung


class Batch(NamedTuple):
    """The share of one process in a batch, on its device.

    If a micro-batch has fewer samples than there are processes, each process without a sample gets a copy of the first
    sample, which does not count. Every process has to call the model, because the forward pass may have collectives.
    """

    inputs: Inputs
    targets: Tensor  # as in ``Source``; mixed classes are shares, (batch, classes) float32
    whole: Tensor  # the targets of the whole batch, of all processes
    sizes: tuple[int, ...]  # the number of samples in each micro-batch that count; 0 if the only sample is a copy
    num_pieces: int  # the number of processes times the number of micro-batches in the whole batch
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
    """The samples of every batch that one process computes: an equal number of each micro-batch, or one more.

    Args:
        micro_batch_size: samples of all processes in a micro-batch; the last micro-batch of a batch may be smaller.
        rank: the rank of this process.
        num_processes: the world size.
    """

    micro_batch_size: int
    rank: int = 0
    num_processes: int = 1

    def of(self, rows: Tensor) -> Tensor:
        """Return the rows of this process; ``rows`` has one row for each sample of the whole batch."""
        if self.num_processes == 1:
            return rows
        micro_batches = rows.split(self.micro_batch_size)
        pieces = [(micro, micro.tensor_split(self.num_processes)[self.rank]) for micro in micro_batches]
        return torch.cat([piece if len(piece) else micro[:1] for micro, piece in pieces])

    def batch(self, inputs: Inputs, whole: Tensor) -> Batch:
        """Return the batch of this process.

        Args:
            inputs: the model inputs of this process.
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
        """Terminate the data workers, if there are any."""


class RawBatch(NamedTuple):
    """The raw samples of one process in a batch, and the targets of the whole batch."""

    positions: Tensor  # the positions in the source of the samples of the whole batch
    whole: Tensor  # the targets of the whole batch
    inputs: Inputs
    on_host: Tensor | None = None  # ``positions`` on the CPU, if the batch is on another device

    @classmethod
    def fetch(cls, source: Source, share: Share, positions: Tensor) -> RawBatch:
        """Read the share of this process in the samples at ``positions``."""
        return cls(positions, source.targets.index_select(0, positions), source.fetch(share.of(positions)))

    @classmethod
    def gather(cls, source: Resident, share: Share, positions: Tensor, on_host: Tensor) -> RawBatch:
        """Gather the share of this process from a source on a device, without a wait for the device."""
        inputs = source.fetch(share.of(positions), share.of(on_host))
        return cls(positions, source.targets.index_select(0, positions), inputs, on_host)

    def tensors(self) -> list[Tensor]:
        """Return all tensors of the batch that are on its device."""
        return [self.positions, self.whole, *self.inputs]

    def to(self, device: torch.device) -> RawBatch:
        """Return a copy of a batch on the CPU on another device."""
        positions, whole, *inputs = (tensor.to(device, non_blocking=True) for tensor in self.tensors())
        return RawBatch(positions, whole, tuple(inputs), self.positions)


class _OrderedLoader:
    """The base of both loaders: the order of the batches, and the conversion of a raw batch to a batch."""

    def __init__(self, order: Order, share: Share, preprocess: Preprocess, device: torch.device) -> None:
        self._order, self._share, self._preprocess, self._device = order, share, preprocess, device

    def __len__(self) -> int:
        return self._order.num_batches

    def positions(self, epoch: int, batch: int) -> Tensor:
        return self._order.batches(epoch, batch)[0]

    def close(self) -> None:
        """Do nothing, because there are no data workers."""

    def _positions(self, epoch: int, start: int) -> Iterator[list[Tensor]]:
        """Yield, for each batch of an epoch, the positions of its samples and, with mixing, of their partners."""
        for number, positions in enumerate(self._order.batches(epoch, start), start):
            partners = self._preprocess.partners(self._order.keys(positions, number), epoch)
            yield [positions] if partners is None else [positions, partners]

    def _batch(self, raw: RawBatch, partners: Sequence[RawBatch], epoch: int, number: int) -> Batch:
        """Preprocess the raw batch ``number`` of an epoch on the device, and mix its partners into it, if any."""
        share, preprocess, whole = self._share, self._preprocess, raw.whole
        all_keys = self._order.keys(raw.positions, number)
        keys = share.of(all_keys)
        inputs = preprocess(raw.inputs, keys, epoch, self._host_keys(raw, number))
        for other in partners:
            on_host = None if other.on_host is None else share.of(other.on_host)
            others = preprocess(other.inputs, share.of(other.positions), epoch, on_host)
            inputs = preprocess.mixed(inputs, others, keys, epoch)
            whole = preprocess.mixed_targets(whole, other.whole, all_keys, epoch)
        return share.batch(inputs, whole)

    def _host_keys(self, raw: RawBatch, number: int) -> Tensor | None:
        """Return the keys of this process's samples on the CPU, if they are known there."""
        return None if raw.on_host is None else self._share.of(self._order.keys(raw.on_host, number))


class InMemory(_OrderedLoader):
    """Batches that are gathered from a source on the device."""

    def __init__(
        self, source: Resident, order: Order, share: Share, preprocess: Preprocess, device: torch.device
    ) -> None:
        super().__init__(order, share, preprocess, device)
        self._source = source

    def epoch(self, epoch: int = 0, start: int = 0) -> Generator[Batch, None, None]:
        for number, both in enumerate(self._on_both(self._positions(epoch, start)), start):
            raw, *partners = (RawBatch.gather(self._source, self._share, *positions) for positions in both)
            yield self._batch(raw, partners, epoch, number)

    def _on_both(self, batches: Iterator[list[Tensor]]) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Yield each tensor of each batch on the device and on the CPU; copy those of all batches together."""
        if self._device.type == "cpu":
            yield from ([(positions, positions) for positions in both] for both in batches)
            return
        columns = [*zip(*batches, strict=True)]  # the samples of each batch and, with mixing, their partners
        sizes = [[len(positions) for positions in column] for column in columns]
        copies = [torch.cat(column).to(self._device).split(each) for column, each in zip(columns, sizes, strict=True)]
        for moved, on_host in zip(zip(*copies, strict=True), zip(*columns, strict=True), strict=True):
            yield [*zip(moved, on_host, strict=True)]


class Streamed(_OrderedLoader):
    """Batches that a DataLoader reads in ``workers`` processes and that are preprocessed on the device.

    Args:
        source, order, share, preprocess, device: as in ``InMemory``.
        workers: the number of data workers; 0 reads in this process.
        key: the beginning of the key of the random numbers that a source draws, such as (seed, "train").
    """

    def __init__(
        self,
        source: Source,
        order: Order,
        share: Share,
        preprocess: Preprocess,
        device: torch.device,
        workers: int,
        key: tuple[int | str, ...] = (),
    ) -> None:
        super().__init__(order, share, preprocess, device)
        self._sampler = _EpochSampler()
        self._copy_stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._loader = DataLoader(
            _Batches(source, share, key),
            sampler=self._sampler,
            batch_size=None,  # the items of the sampler are whole batches
            num_workers=workers,
            # Python 3.14 would start each worker anew: torch is imported again, and the data set has to be pickled.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # otherwise every new iterator would draw from the global generator
            worker_init_fn=initializer() if workers else None,
            timeout=MAX_SECONDS if workers else 0,
        )

    def epoch(self, epoch: int = 0, start: int = 0) -> Generator[Batch, None, None]:
        numbered = enumerate(self._positions(epoch, start), start)
        self._sampler.items = (_Item(epoch, number, [each.numpy() for each in both]) for number, both in numbered)
        has_workers = self._loader.num_workers > 0
        with watched_workers(fetching=has_workers), starting_workers():
            batches = iter(self._loader)
        for number in itertools.count(start):
            with watched_workers(fetching=has_workers):
                both = next(batches, None)
            if both is None:
                return
            raw, *partners = map(self._on_device, both)
            yield self._batch(raw, partners, epoch, number)

    def _on_device(self, raw: RawBatch) -> RawBatch:
        """Copy a batch to the device; on CUDA in a second stream, during the computation of the previous step."""
        if self._copy_stream is None:
            return raw.to(self._device)
        with torch.cuda.stream(self._copy_stream):
            moved = raw.to(self._device)
        now = torch.cuda.current_stream(self._device)
        now.wait_stream(self._copy_stream)
        for tensor in moved.tensors():
            tensor.record_stream(now)  # keeps the allocator from reusing the memory before the step has finished
        return moved

    def close(self) -> None:
        """Shut the data workers down, then kill those that hang, because Python would wait for them on exit."""
        iterator = getattr(self._loader, "_iterator", None)  # torch has no public method for this
        if iterator is not None:
            iterator._shutdown_workers()
            for worker in iterator._workers:
                worker.kill()


class _Item(NamedTuple):
    """What a DataLoader is asked for: a batch of an epoch.

    The positions are arrays, because tensors are sent to a data worker as open files.
    """

    epoch: int
    number: int  # of the batch in the epoch
    both: list[npt.NDArray[np.int64]]  # the positions of the samples and, with mixing, of their partners


class _EpochSampler:
    """Yield the items that the loader has set, which are those of one epoch."""

    items: Iterator[_Item]

    def __iter__(self) -> Iterator[_Item]:
        return self.items


class _Batches(Dataset[list[RawBatch]]):
    """A data set for a DataLoader, whose items are the shares of this process in whole batches.

    What a source draws from the global generators is a pure function of the seed, the split, the epoch, the batch and
    the process, whichever data worker reads the batch.
    """

    def __init__(self, source: Source, share: Share, key: tuple[int | str, ...]) -> None:
        self._source, self._share, self._key = source, share, key
        self._draws = type(source) not in WITHOUT_DRAWS

    def __getitem__(self, item: _Item) -> list[RawBatch]:
        key, both = (*self._key, item.epoch, item.number, self._share.rank), map(torch.from_numpy, item.both)
        with seeded(*key) if self._draws else contextlib.nullcontext():
            return [RawBatch.fetch(self._source, self._share, positions) for positions in both]


class Loaders(NamedTuple):
    """The loaders of a run, one for each split."""

    train: Loader
    val: Loader | None
    test: Loader

    def close(self) -> None:
        """Terminate the data workers of every loader."""
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
    """Return the loaders of a data set. Only train is shuffled and augmented.

    Args:
        data: the data set.
        device: the device of the batches.
        seed: the seed of the order, the augmentation and the mixing of train, and of what a source draws.
        batch_size: samples of all processes in a training batch.
        limit_batches: the maximum number of training batches in an epoch. Val and test are limited to as many samples,
            spread evenly over the split.
        overfit_batches: train on this many random batches, the same in every epoch, and use them as val too.
        share: the share of this process in every training batch. A batch of val or test is a single micro-batch.
        evaluation_batch_size: the batch size of val and test; None for ``batch_size``. Results differ only by rounding.
    """
    on_device: dict[int, Resident] = {}  # by id: splits may share a source, which is copied only once
    in_memory = _fits(data, device)

    def load(name: str, split: Split, shuffle: int | None, share: Share, size: int) -> Loader:
        source, limit = split.source, limit_batches
        if limit is not None and shuffle is None:
            split, limit = _spread(split, limit * batch_size), None
        weights = (
            _balancing_weights(split.targets, len(data.spec.classes)) if data.balanced and shuffle is not None else None
        )
        order = Order(split.positions, size, shuffle, limit, lengths=split.lengths, weights=weights)
        preprocess = Preprocess(data, data.train.positions, shuffle, device)
        if in_memory and isinstance(source, TensorSource | RaggedSource) and type(source) in WITHOUT_DRAWS:
            resident = on_device.setdefault(id(source), source.to(device))
            return InMemory(resident, order, share, preprocess, device)
        return Streamed(source, order, share, preprocess, device, data.workers, (seed, name))

    larger = evaluation_batch_size or batch_size
    evaluated = share._replace(micro_batch_size=larger)
    test = load("test", data.test, None, evaluated, larger)
    if overfit_batches is not None:
        shuffled = torch.randperm(len(data.train), generator=generator(seed, "overfit"))
        few = load("train", data.train.take(shuffled[: overfit_batches * batch_size]), None, share, batch_size)
        return Loaders(few, few, test)
    val = None if data.val is None else load("val", data.val, None, evaluated, larger)
    return Loaders(load("train", data.train, seed, share, batch_size), val, test)


def _fits(data: Data, device: torch.device) -> bool:
    """Return whether to copy the samples of all splits to the device; ``auto`` compares their size with its memory."""
    if data.in_memory != "auto" or device.type != "cuda":
        return bool(data.in_memory)
    sources = {id(split.source): split.source for split in data.splits().values()}.values()
    needed = sum(source.num_bytes for source in sources if isinstance(source, TensorSource | RaggedSource))
    return needed <= DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]


def _spread(split: Split, count: int) -> Split:
    """Take at most ``count`` samples, evenly spread: the first samples of a sorted split might have a single class."""
    if count >= len(split):
        return split
    return split.take(torch.arange(count) * len(split) // count)


def _balancing_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Return weights of the samples, (samples,) float64, with which all classes are equally frequent."""
    return 1 / targets.bincount(minlength=num_classes).double()[targets]
