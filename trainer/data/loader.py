"""Batches from a split, on the device, by two paths that give the same bits: in memory, or streamed.

The order of an epoch is a pure function of (seed, epoch), so the position in a run is two numbers: the epoch and the
batches of it that are done. Several processes cut the same batches into shares.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from trainer.config import RunError
from trainer.data.data import (
    Data,
    Inputs,
    RaggedSource,
    Resident,
    Source,
    Split,
    TensorSource,
    generator,
    keep,
    valid_steps,
)
from trainer.data.random_numbers import SampleRandom
from trainer.processes.signals import of_a_worker

SIMILAR = 50  # batches whose samples are sorted by length
MAX_SECONDS = 600  # that a batch may take in a data worker; one that takes longer hangs


class Batch(NamedTuple):
    """Samples on the device: what a process has of a batch, micro-batch by micro-batch.

    Where a micro-batch has less samples than there are processes, some have one that does not count: the model is
    called in every process, as they wait for one another in it.
    """

    inputs: Inputs
    targets: Tensor  # as in ``Source``; of mixed classes (batch, classes) float32 shares
    whole: Tensor  # the targets of the whole batch, of all processes
    sizes: tuple[int, ...]  # samples of each micro-batch that count; 0 stands for one that does not

    @property
    def counts(self) -> bool:
        """Whether a sample counts."""
        return any(self.sizes)

    def split(self) -> Iterator[Batch]:
        """The micro-batches."""
        if len(self.sizes) == 1:
            yield self
            return
        lengths = [size or 1 for size in self.sizes]
        parts = zip(*(tensor.split(lengths) for tensor in (*self.inputs, self.targets)), strict=True)
        for size, (*inputs, targets) in zip(self.sizes, parts, strict=True):
            yield Batch(tuple(inputs), targets, self.whole, (size,))


class Share(NamedTuple):
    """Which part of every batch a process takes: of each micro-batch as many samples as the others, or one more.

    Args:
        micro_batch_size: samples of all processes together; the last micro-batch of a batch may be smaller.
        rank, num_processes: which process of how many.
    """

    micro_batch_size: int
    rank: int = 0
    num_processes: int = 1

    def of(self, positions: Tensor) -> Tensor:
        """Those of a batch's positions that are this process's."""
        if self.num_processes == 1:
            return positions
        micro_batches = positions.split(self.micro_batch_size)
        pieces = [(micro, micro.tensor_split(self.num_processes)[self.rank]) for micro in micro_batches]
        return torch.cat([piece if len(piece) else micro[:1] for micro, piece in pieces])

    def sizes(self, num_samples: int) -> tuple[int, ...]:
        """How many samples of each micro-batch of a batch of ``num_samples`` that is."""
        whole, rest = divmod(num_samples, self.micro_batch_size)
        micro_batches = [self.micro_batch_size] * whole + [rest] * (rest > 0)
        return tuple(len(range(self.rank, size, self.num_processes)) for size in micro_batches)


class Loader(Protocol):
    """Batches of one split."""

    def __len__(self) -> int:
        """Batches in an epoch."""

    def epoch(self, epoch: int = 0, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch, from batch ``start`` on."""

    def positions(self, epoch: int, batch: int) -> Tensor:
        """The positions in their source of the samples of one batch, int64 on the CPU."""

    def close(self) -> None:
        """End the processes that read, if there are some."""


class Order:
    """Which samples stand in which batch of an epoch: a pure function of (seed, epoch).

    Args:
        positions: of the split's samples in their source.
        batch_size: samples in a batch; the last may be smaller.
        seed: shuffles with it; None keeps the split's order, or that of the lengths.
        limit: so many batches at most.
        lengths: of the samples; those of similar length come together, so that little is computed for padding.
        weights: draw with these chances and with replacement, instead of shuffling.
    """

    def __init__(
        self,
        positions: Tensor,
        batch_size: int,
        seed: int | None,
        limit: int | None,
        *,
        lengths: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> None:
        self._positions, self._batch_size, self._seed = positions, batch_size, seed
        self._lengths, self._weights = lengths, weights
        batches = -(-len(positions) // batch_size)
        self.num_batches = batches if limit is None else min(batches, limit)

    def keys(self, batch: Tensor, number: int) -> Tensor:
        """What the random draws of the samples of batch ``number`` follow from besides the epoch, (batch,) int64.

        Their positions; or, of samples that come again and again, their places in the epoch.
        """
        if self._weights is None:
            return batch
        return torch.arange(len(batch), device=batch.device) + number * self._batch_size

    def batches(self, epoch: int, start: int, device: torch.device) -> list[Tensor]:
        """The positions of each batch from ``start`` on, sent to the device at once."""
        positions = self._positions
        if self._seed is not None:
            maker = generator(self._seed, epoch, "order")
            if self._weights is None:
                shuffled = torch.randperm(len(positions), generator=maker)
            else:  # the inverse of the cumulative distribution: torch.multinomial has a limit of 2^24 samples
                chances = self._weights.double().cumsum(0)
                drawn = torch.rand(len(positions), generator=maker, dtype=torch.float64) * chances[-1]
                shuffled = torch.searchsorted(chances, drawn, right=True)
            if self._lengths is not None:
                shuffled = self._similar(shuffled, self._lengths, maker)
            positions = positions.index_select(0, shuffled)
        elif self._lengths is not None:
            positions = positions.index_select(0, self._lengths.argsort(stable=True))
        return list(positions.to(device).split(self._batch_size))[start : self.num_batches]

    def _similar(self, shuffled: Tensor, lengths: Tensor, maker: torch.Generator) -> Tensor:
        """Sorted by length within every ``SIMILAR`` batches, and these batches shuffled; a smaller last one stays."""
        size = self._batch_size
        whole = len(shuffled) // size * size
        sorted_ = [
            some.index_select(0, lengths.index_select(0, some).argsort(stable=True))
            for some in shuffled[:whole].split(SIMILAR * size)
        ]
        batches = torch.cat([*sorted_, shuffled[:0]]).view(-1, size)
        mixed = batches.index_select(0, torch.randperm(len(batches), generator=maker))
        return torch.cat([mixed.flatten(), shuffled[whole:]])


class Preprocess:
    """Raw samples to what the model reads, a batch at a time: augment, features, normalise, augment features, mix.

    Args:
        data: says how.
        among: the positions of the samples that are mixed in.
        seed: of what is random; None leaves all of that out.
        device: where the batches are.
    """

    def __init__(self, data: Data, among: Tensor, seed: int | None, device: torch.device) -> None:
        self._normalise = None if data.normalise is None else data.normalise.to(device)
        self._features = None if data.features is None else data.features.to(device)
        self._augment = None if seed is None else data.augment
        self._augment_features = None if seed is None else data.augment_features
        self._mix = None if seed is None else data.mix
        self._spec, self._among, self._seed = data.spec, among, seed

    def partners(self, keys: Tensor, epoch: int) -> Tensor | None:
        """The position of the sample that each one is mixed with, (batch,); None where nothing is mixed."""
        if self._mix is None:
            return None
        return self._draws(keys, epoch).others("partner", self._among)

    def __call__(self, inputs: Inputs, keys: Tensor, epoch: int) -> Inputs:
        """What the model reads of one sample each, not mixed yet; their draws follow from ``keys``, (batch,)."""
        draws = self._draws(keys, epoch)
        if self._augment is not None:
            inputs = self._augment(inputs, draws)
        if self._features is not None:
            inputs = self._features(inputs)
        if self._normalise is not None:
            inputs = self._padded(self._normalise(inputs[0]), *inputs[1:])
        if self._augment_features is not None:
            inputs = self._augment_features(inputs, draws)
        return inputs

    def mixed(self, inputs: Inputs, others: Inputs, keys: Tensor, epoch: int) -> Inputs:
        """The samples with their partners mixed in."""
        assert self._mix is not None
        return self._mix(inputs, others, self._draws(keys, epoch))

    def mixed_targets(self, targets: Tensor, others: Tensor, keys: Tensor, epoch: int) -> Tensor:
        """The targets alike: (batch, classes, labels or values) float32."""
        assert self._mix is not None
        share = self._mix.shares(self._draws(keys, epoch)).unsqueeze(1)
        if self._spec.task == "classification":
            targets, others = (F.one_hot(each, len(self._spec.classes)) for each in (targets, others))
        return share * targets + (1 - share) * others

    def _draws(self, keys: Tensor, epoch: int) -> SampleRandom:
        return SampleRandom(keys, self._seed or 0, epoch, "augment")

    def _padded(self, first: Tensor, *lengths: Tensor) -> Inputs:
        """Padding is zeros to a model, whatever it was before."""
        if not lengths:
            return (first,)
        axis = self._spec.step_axis
        return keep(first, valid_steps(lengths[0], first.shape[axis]), axis), *lengths


class Raw(NamedTuple):
    """A process's share of a batch, as the source has it."""

    batch: Tensor  # the positions of the whole batch
    whole: Tensor  # their targets
    inputs: Inputs
    # of the samples that are mixed in, where there are some
    partners: Tensor | None = None
    other_whole: Tensor | None = None
    others: Inputs = ()

    @classmethod
    def fetch(cls, source: Source, share: Share, batch: Tensor, partners: Tensor | None) -> Raw:
        """The samples at the positions ``batch``, and at ``partners``."""
        first = cls(batch, source.targets.index_select(0, batch), source.fetch(share.of(batch)))
        if partners is None:
            return first
        targets = source.targets.index_select(0, partners)
        return first._replace(partners=partners, other_whole=targets, others=source.fetch(share.of(partners)))

    def tensors(self) -> list[Tensor]:
        """All there are."""
        single = (self.batch, self.whole, self.partners, self.other_whole)
        return [*(tensor for tensor in single if tensor is not None), *self.inputs, *self.others]

    def to(self, device: torch.device) -> Raw:
        """The same on another device."""
        inputs, others = (tuple(t.to(device, non_blocking=True) for t in each) for each in (self.inputs, self.others))
        rest = (
            None if tensor is None else tensor.to(device, non_blocking=True)
            for tensor in (self.batch, self.whole, self.partners, self.other_whole)
        )
        batch, whole, partners, other_whole = rest
        assert batch is not None and whole is not None
        return Raw(batch, whole, inputs, partners, other_whole, others)


class _Ordered:
    """What both paths know of their batches."""

    def __init__(self, order: Order, share: Share, preprocess: Preprocess, device: torch.device) -> None:
        self._order, self._share, self._preprocess, self._device = order, share, preprocess, device

    def __len__(self) -> int:
        return self._order.num_batches

    def positions(self, epoch: int, batch: int) -> Tensor:
        """The positions in their source of the samples of one batch, int64 on the CPU."""
        return self._order.batches(epoch, batch, torch.device("cpu"))[0]

    def close(self) -> None:
        """Nothing to end."""

    def _ready(self, raw: Raw, epoch: int, number: int) -> Batch:
        """Batch ``number`` of an epoch, preprocessed on the device, and mixed."""
        share, preprocess, whole = self._share, self._preprocess, raw.whole
        all_keys = self._order.keys(raw.batch, number)
        keys = share.of(all_keys)
        inputs = preprocess(raw.inputs, keys, epoch)
        if raw.partners is not None and raw.other_whole is not None:
            others = preprocess(raw.others, share.of(raw.partners), epoch)
            inputs = preprocess.mixed(inputs, others, keys, epoch)
            whole = preprocess.mixed_targets(whole, raw.other_whole, all_keys, epoch)
        return Batch(inputs, share.of(whole), whole, share.sizes(whole.shape[0]))


class InMemory(_Ordered):
    """The source lives on the device; a batch is one gather."""

    def __init__(
        self, source: Resident, order: Order, share: Share, preprocess: Preprocess, device: torch.device
    ) -> None:
        super().__init__(order, share, preprocess, device)
        self._source = source

    def epoch(self, epoch: int = 0, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch, from batch ``start`` on."""
        for number, batch in enumerate(self._order.batches(epoch, start, self._device), start):
            partners = self._preprocess.partners(self._order.keys(batch, number), epoch)
            yield self._ready(Raw.fetch(self._source, self._share, batch, partners), epoch, number)


class Streamed(_Ordered):
    """The source is read by a DataLoader, in ``workers`` processes; preprocessing happens on the device."""

    def __init__(
        self, source: Source, order: Order, share: Share, preprocess: Preprocess, device: torch.device, workers: int
    ) -> None:
        super().__init__(order, share, preprocess, device)
        self._sampler = _EpochSampler(order, preprocess)
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._loader = DataLoader(
            _Batches(source, share),
            sampler=self._sampler,
            batch_size=None,  # the sampler's items are whole batches already
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else making an iterator would draw from the global one
            worker_init_fn=of_a_worker,
            timeout=MAX_SECONDS if workers else 0,
        )

    def epoch(self, epoch: int = 0, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch, from batch ``start`` on."""
        self._sampler.epoch, self._sampler.start = epoch, start
        batches = iter(self._loader)
        for number in itertools.count(start):
            with watched_workers(fetching=self._loader.num_workers > 0):
                raw = next(batches, None)
            if raw is None:
                return
            yield self._ready(self._on_device(raw), epoch, number)

    def _on_device(self, raw: Raw) -> Raw:
        """Copied to a GPU while it is still busy with the step before: on a stream beside that of the steps."""
        if self._copies is None:
            return raw.to(self._device)
        with torch.cuda.stream(self._copies):
            moved = raw.to(self._device)
        now = torch.cuda.current_stream(self._device)
        now.wait_stream(self._copies)
        for tensor in moved.tensors():
            tensor.record_stream(now)  # its memory is not the next copy's before the step is over
        return moved

    def close(self) -> None:
        """End the workers: asked first, then at once; at its own exit Python would wait for those that hang."""
        iterator = getattr(self._loader, "_iterator", None)  # torch has no public way
        if iterator is not None:
            iterator._shutdown_workers()
            for worker in iterator._workers:
                worker.kill()


@contextlib.contextmanager
def watched_workers(*, fetching: bool = False) -> Iterator[None]:
    """Raises RunError where a data worker has failed, died or hangs, with what is known about it.

    torch tells of a dead one in a signal handler, so wherever the main process happens to be.

    Args:
        fetching: a batch from the workers, so that a broken connection is a dead worker's too.
    """
    try:
        yield
    except Exception as error:
        report = str(error)
        if "in DataLoader worker process" in report:
            if isinstance(error, RunError):  # it has said all in one line, which torch put a traceback before
                raise RunError(report.rstrip().rpartition("RunError: ")[2]) from error
            raise RunError(f"a data worker failed: {_in_a_worker(report)}") from error
        if fetching and isinstance(error, (EOFError, ConnectionError, FileNotFoundError)):
            report = "DataLoader worker ended before its batch was read"
        if not report.startswith("DataLoader "):
            raise
        free = shutil.disk_usage("/dev/shm").free >> 20 if Path("/dev/shm").is_dir() else None
        memory = "" if free is None else f" ({free:,} MiB free in /dev/shm)"
        what = " ".join(report.partition("Details are lost")[0].split()).rstrip(".")
        advice = f"out of memory? fewer dataset.workers need less{memory}; with dataset.workers=0 it says more"
        raise RunError(f"a data worker failed: {what}; {advice}") from error


def _in_a_worker(report: str) -> str:
    """An error and its place, out of the text that torch makes of a worker's traceback."""
    lines = report.rstrip().splitlines()
    start = max((number + 1 for number, line in enumerate(lines) if line.startswith("    ")), default=0)
    places = re.findall(r'^  File "(.+)", line (\d+)', report, flags=re.MULTILINE)
    place = f" in {places[-1][0]}, line {places[-1][1]}" if places else ""
    return " ".join(" ".join(lines[start:]).split()) + place


class _EpochSampler:
    """Hands the DataLoader the batches of the epoch it is told, each with the positions that are mixed in."""

    def __init__(self, order: Order, preprocess: Preprocess) -> None:
        self.order, self.preprocess, self.epoch, self.start = order, preprocess, 0, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        epoch = self.epoch
        for number, batch in enumerate(self.order.batches(epoch, self.start, torch.device("cpu")), self.start):
            yield batch, self.preprocess.partners(self.order.keys(batch, number), epoch)

    def __len__(self) -> int:
        return self.order.num_batches - self.start


class _Batches(Dataset[Raw]):
    """A source whose items are a process's shares of batches, for the workers of a DataLoader."""

    def __init__(self, source: Source, share: Share) -> None:
        self._source, self._share = source, share

    def __getitem__(self, item: tuple[Tensor, Tensor | None]) -> Raw:
        return Raw.fetch(self._source, self._share, *item)


class Loaders(NamedTuple):
    """The loaders of a run."""

    train: Loader
    val: Loader | None
    test: Loader

    def close(self) -> None:
        """End the processes that read."""
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
    """Loaders for the splits of ``data``: train shuffled and augmented with the seed, the others in order.

    Args:
        share: of every training batch that is this process's; the other splits have no micro-batches.
        limit_batches: so many batches of each split at most.
        overfit_batches: train on the same first batches in every epoch, unshuffled, and use them as val too.
        evaluation_batch_size: of the other splits; None for that of training. It changes no result but by rounding.
    """
    on_device: dict[int, Resident] = {}  # splits share a source; it goes to the device once

    def load(split: Split, shuffle: int | None, share: Share, size: int) -> Loader:
        source, limit = split.source, limit_batches
        if limit is not None and shuffle is None:
            split, limit = _spread(split, limit * batch_size), None
        weights = _balancing(split.targets, len(data.spec.classes)) if data.balanced and shuffle is not None else None
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
    """So many samples at most, from all over a split: one that is sorted by class would show only the first one."""
    if count >= len(split):
        return split
    return split.take(torch.arange(count) * len(split) // count)


def _balancing(targets: Tensor, num_classes: int) -> Tensor:
    """(samples,) chances of a draw with which every class that has samples is as frequent as the others."""
    return 1 / targets.bincount(minlength=num_classes).double()[targets]
