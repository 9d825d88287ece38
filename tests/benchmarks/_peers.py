"""The same trainings without this project: one epoch of MNIST, then the test images.

    python _peers.py TOOL JOB DATA [STEPS]

Every tool trains the same networks from the same seed with Adam at 1e-3 and batches of 128, on the CPU. They write into
the working directory. Of the job ``linear`` they get all batches ready-made, as it measures what is round a step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from trainer.memory import keep_freed_memory

BATCH, RATE, LOG_EVERY = 128, 1e-3, 50
TUNED_EVALUATION = 250  # images of a batch
MEAN, STD = 0.1307, 0.3081  # of the training images

Pairs = Iterable[tuple[Tensor, Tensor]]  # images (batch, 1, 28, 28) and labels


class Rows(nn.Module):
    """An image row by row through a recurrent layer; the last state goes through a linear layer."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer, self.out = layer, nn.Linear(layer.hidden_size, 10)

    def forward(self, images: Tensor) -> Tensor:
        states: Tensor = self.layer(images.squeeze(1))[0]
        outputs: Tensor = self.out(states[:, -1])
        return outputs


def network(job: str) -> nn.Module:
    """What every tool trains; the sizes are the defaults of the project's models."""
    if job == "cnn":
        return nn.Sequential(
            *[nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)],
            *[nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)],
            *[nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10)],
        )
    if job == "gru":
        return Rows(nn.GRU(28, 128, batch_first=True))
    if job == "lstm":
        return Rows(nn.LSTM(28, 128, num_layers=2, batch_first=True))
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))


class LastState(torch.autograd.Function):
    """The state of a GRU after the last step, and the gradients of its parameters.

    What does not depend on the step before is done for all steps at once: the products with the inputs, and in the
    backward pass the derivatives of the gates and the gradients of the weights.
    """

    @staticmethod
    def forward(
        ctx: Any, steps: Tensor, of_inputs: Tensor, of_state: Tensor, bias: Tensor, state_bias: Tensor
    ) -> Tensor:
        """(time, batch, width) and the parameters of nn.GRU -> (batch, hidden)."""
        hidden = of_state.shape[1]
        inputs = F.linear(steps, of_inputs, bias)  # its first two thirds become the gates
        products = torch.empty_like(inputs)
        news = inputs.new_empty(*inputs.shape[:2], hidden)
        states = inputs.new_zeros(len(steps) + 1, steps.shape[1], hidden)
        for step, product, new, before, after in zip(inputs, products, news, states[:-1], states[1:], strict=True):
            torch.addmm(state_bias, before, of_state.T, out=product)
            gates = step[:, : 2 * hidden].add_(product[:, : 2 * hidden]).sigmoid_()
            torch.addcmul(step[:, 2 * hidden :], gates[:, :hidden], product[:, 2 * hidden :], out=new).tanh_()
            torch.lerp(new, before, gates[:, hidden:], out=after)
        reset, update, _ = inputs.chunk(3, dim=2)
        ctx.save_for_backward(steps, of_state, states[:-1], reset, update, products[:, :, 2 * hidden :], news)
        return states[-1].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Of the last state -> of each argument of ``forward``; none of the steps."""
        steps, of_state, before, reset, update, proposal, new = ctx.saved_tensors
        (gradient,) = gradients
        rest = 1 - update
        to_update = (before - new).mul_(update).mul_(rest)
        to_new = rest.addcmul_(rest, new.square(), value=-1)
        to_reset = (1 - reset).mul_(reset).mul_(proposal)
        in_inputs = steps.new_empty(*new.shape[:2], 3, new.shape[2])  # reset, update, new
        in_product = torch.empty_like(in_inputs)
        for time in reversed(range(len(new))):
            of_new = torch.mul(gradient, to_new[time], out=in_inputs[time, :, 2])
            torch.mul(of_new, to_reset[time], out=in_product[time, :, 0])
            torch.mul(gradient, to_update[time], out=in_product[time, :, 1])
            torch.mul(of_new, reset[time], out=in_product[time, :, 2])
            gradient = torch.addmm(gradient * update[time], in_product[time].flatten(1), of_state)
        in_inputs[:, :, :2] = in_product[:, :, :2]
        of_inputs, of_product = (each.view(-1, of_state.shape[0]) for each in (in_inputs, in_product))
        return (
            None,
            of_inputs.T @ steps.flatten(0, 1),
            of_product.T @ before.flatten(0, 1),
            of_inputs.sum(0),
            of_product.sum(0),
        )


class TunedRows(Rows):
    """The same function as ``Rows`` of a GRU, with the backward pass above."""

    def forward(self, images: Tensor) -> Tensor:
        layer = self.layer
        weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
        state = LastState.apply(images.squeeze(1).transpose(0, 1).contiguous(), *weights)  # type: ignore[no-untyped-call]
        outputs: Tensor = self.out(state)
        return outputs


def tuned_network(job: str) -> nn.Module:
    """The same function as ``network``, arranged so that torch is fast at it."""
    model = network(job)
    if isinstance(model, Rows) and isinstance(model.layer, nn.GRU):
        tuned = TunedRows(model.layer)
        tuned.out = model.out
        return tuned
    if job == "cnn":
        assert isinstance(model, nn.Sequential)
        for first in (1, 4):  # the largest value is the same before and after a ReLU
            model[first], model[first + 1] = model[first + 1], model[first]
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
    return model


def read(root: Path, part: str, count: int | None = None) -> tuple[Tensor, Tensor]:
    """The first images of a part, normalised, and their labels."""
    images, labels = (
        torch.frombuffer(bytearray((root / "MNIST" / "raw" / f"{part}-{name}-ubyte").read_bytes()), dtype=torch.uint8)
        for name in ("images-idx3", "labels-idx1")
    )
    normalised = images[16:].view(-1, 1, 28, 28)[:count].float().div_(255).sub_(MEAN).div_(STD)
    return normalised, labels[8:][:count].long()


class ReadyMade:
    """Batches that are there already."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.batches = list(zip(images.split(BATCH), labels.split(BATCH), strict=True))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)


def shuffled(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches in a random order, each gathered in one go."""
    for batch in torch.randperm(len(images)).split(BATCH):
        yield images.index_select(0, batch), labels.index_select(0, batch)


def usual_loaders(job: str, root: Path, count: int | None) -> tuple[Pairs, Pairs]:
    """Train and test as in torchvision's examples."""
    if job == "linear":
        return ReadyMade(*read(root, "train", count)), ReadyMade(*read(root, "t10k"))
    from trainer.data.torchvision_import import torchvision

    transforms = torchvision.transforms
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    train, test = (torchvision.datasets.MNIST(root, train=part, transform=transform) for part in (True, False))
    if count is not None:
        train = Subset(train, range(count))
    return DataLoader(train, batch_size=BATCH, shuffle=True), DataLoader(test, batch_size=BATCH)


def accuracy(model: nn.Module, batches: Pairs) -> float:
    """The share of right answers."""
    model.eval()
    right = total = 0
    with torch.no_grad():
        for images, labels in batches:
            right += int((model(images).argmax(1) == labels).sum())
            total += len(labels)
    return right / total


def loop(job: str, root: Path, count: int | None) -> float:
    """The loop that everyone writes."""
    from tqdm import tqdm

    train, test = usual_loaders(job, root, count)
    model = network(job)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    bar = tqdm(train)
    for images, labels in bar:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        bar.set_postfix(loss=loss.item(), refresh=False)
    return accuracy(model, test)


def limit(job: str, root: Path, count: int | None, *, tuned: bool = False) -> float:
    """Nothing but the arithmetic: no loader, no bar, no log."""
    if tuned:
        keep_freed_memory(True)
    model = tuned_network(job) if tuned else network(job)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=tuned or None)
    data = read(root, "train", count)
    for images, labels in ReadyMade(*data) if job == "linear" else shuffled(*data):
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    test_images, test_labels = read(root, "t10k")
    size = TUNED_EVALUATION if tuned else BATCH
    return accuracy(model, zip(test_images.split(size), test_labels.split(size), strict=True))


def limit_tuned(job: str, root: Path, count: int | None) -> float:
    """The same arithmetic, with all that makes it fast in fp32."""
    return limit(job, root, count, tuned=True)


def lightning(job: str, root: Path, count: int | None) -> float:
    """A LightningModule and a Trainer with its bar, its checkpoint and TensorBoard, which it logs to every 50 steps."""
    from trainer.data.torchvision_import import torchvision  # noqa: F401, I001  # so that it can be imported by what comes next
    import lightning as L
    from lightning.pytorch.loggers import TensorBoardLogger

    train, test = usual_loaders(job, root, count)

    class Classifier(L.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network(job)

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            images, labels = batch
            loss = F.cross_entropy(self.network(images), labels)
            self.log("train_loss", loss, prog_bar=True)
            return loss

        def test_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
            images, labels = batch
            self.log("test_accuracy", (self.network(images).argmax(1) == labels).float().mean())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=RATE)

    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=TensorBoardLogger("logs"), log_every_n_steps=LOG_EVERY)
    classifier = Classifier()
    trainer.fit(classifier, train)
    return float(trainer.test(classifier, test)[0]["test_accuracy"])


def accelerate(job: str, root: Path, count: int | None) -> float:
    """The loop through an Accelerator, with its bar, its TensorBoard tracker every 50 steps, and a checkpoint."""
    train, test = usual_loaders(job, root, count)
    from accelerate import Accelerator
    from accelerate.utils import tqdm

    accelerator = Accelerator(cpu=True, log_with="tensorboard", project_dir=".")
    accelerator.init_trackers("logs")
    model = network(job)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    model, optimizer, train, test = accelerator.prepare(model, optimizer, train, test)
    for step, (images, labels) in enumerate(tqdm(train), 1):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        accelerator.backward(loss)
        optimizer.step()
        if step % LOG_EVERY == 0:
            accelerator.log({"train_loss": loss.item()}, step=step)
    accelerator.save_state("checkpoint")
    model.eval()
    right = total = 0
    with torch.no_grad():
        for images, labels in test:
            answers, wanted = accelerator.gather_for_metrics((model(images).argmax(1), labels))
            right += int((answers == wanted).sum())
            total += len(wanted)
    accelerator.end_training()
    return right / total


TOOLS: dict[str, Callable[[str, Path, int | None], float]] = {
    "loop": loop,
    "limit": limit,
    "limit, tuned": limit_tuned,
    "Lightning": lightning,
    "Accelerate": accelerate,
}


def main() -> None:
    """Train as the command line says."""
    tool, job, root, *steps = sys.argv[1:]
    torch.manual_seed(0)
    count = int(steps[0]) * BATCH if steps else None
    print(f"test accuracy {TOOLS[tool](job, Path(root), count):.4f}")


if __name__ == "__main__":
    main()
