"""What a training step and an evaluation of the recurrent layers cost, beside torch's own layers, on a CPU.

    python -m tests.benchmarks.recurrence --rounds 40

Batches of 128 sequences with 28 steps of 28 numbers, as the rows of MNIST, hidden size 128; and of 64 sequences with 20
to 24 steps of 64 numbers, as similar sentences. The layers take turns in one process; the tables have the medians in
milliseconds and the ratio of the rates to torch's layer, taken within a round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from tests.benchmarks.speed import machine, print_table
from trainer.memory import keep_freed_memory
from trainer.model.gru import PackedGRU, ResetBeforeGRU
from trainer.model.lstm import PaddedLSTM

HIDDEN = 128
Layers = dict[str, tuple[nn.Module, Callable[[], Tensor]]]


def packed(layer: nn.RNNBase, steps: Tensor, lengths: Tensor | None) -> Tensor:
    """As everyone calls torch's layers; the last states."""
    if lengths is None:
        last = layer(steps)[1]
    else:
        last = layer(pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False))[1]
    states: Tensor = last[0] if isinstance(last, tuple) else last
    return states[-1]


def layers(steps: Tensor, lengths: Tensor | None) -> Layers:
    """Torch's GRU, and ours by its side; likewise the LSTM."""
    width = steps.shape[2]
    gru, lstm = nn.GRU(width, HIDDEN, batch_first=True), nn.LSTM(width, HIDDEN, batch_first=True)
    after, long = PackedGRU(width, HIDDEN, batch_first=True), PaddedLSTM(width, HIDDEN, batch_first=True)
    before = ResetBeforeGRU(width, HIDDEN, 1, dropout=0.0, bidirectional=False)
    return {
        "torch.nn.GRU": (gru, lambda: packed(gru, steps, lengths)),
        "model=gru": (after, lambda: after(steps, lengths)),
        "model=gru model.reset_after=false": (before, lambda: before(steps, lengths)),
        "torch.nn.LSTM": (lstm, lambda: packed(lstm, steps, lengths)),
        "model=lstm": (long, lambda: long(steps, lengths)),
    }


def measure(steps: Tensor, lengths: Tensor | None, rounds: int) -> list[list[str]]:
    """The header and a row for each layer."""
    seconds: dict[str, list[tuple[float, float]]] = {}
    cases = layers(steps, lengths)
    for _ in range(rounds + 3):
        for name, (layer, call) in cases.items():
            layer.zero_grad()
            started = time.perf_counter()
            call().sum().backward()
            trained = time.perf_counter()
            with torch.inference_mode():
                call()
            seconds.setdefault(name, []).append((trained - started, time.perf_counter() - trained))
    rows = [["layer", "ms a training step", "rate / torch's", "ms an evaluation", "rate / torch's"]]
    base = ""
    for name, all_times in seconds.items():
        base = name if name.startswith("torch.") else base
        row = [name]
        for kind in (0, 1):
            mine, others = ([each[kind] for each in times[3:]] for times in (all_times, seconds[base]))
            ratio = statistics.median(other / own for own, other in zip(mine, others, strict=True))
            row += [f"{1000 * statistics.median(mine):.2f}", f"{ratio:.2f}"]
        rows.append(row)
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    keep_freed_memory(True)
    torch.manual_seed(0)
    print(f"{machine()}; {torch.get_num_threads()} threads, {rounds} rounds\n")
    print("128 sequences of 28 steps\n")
    print_table(measure(torch.randn(128, 28, 28), None, rounds))
    print("64 sequences of 20 to 24 steps\n")
    print_table(measure(torch.randn(64, 24, 64), torch.randint(20, 25, (64,)), rounds))


if __name__ == "__main__":
    main()
