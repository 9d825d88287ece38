"""The same trainings without this project: one epoch of MNIST, then the test images.

    python _peers.py TOOL JOB DATA [STEPS]

Every tool trains the same networks from the same seed with Adam at 1e-3 and batches of 128 (``resnet18-224``: 64), on
the CPU unless a ``Task`` says otherwise. They write into the working directory. Of the job ``linear`` they get all
batches ready-made, as it measures what is round a step.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from trainer.memory import keep_freed_memory

BATCH, RATE, LOG_EVERY = 128, 1e-3, 50
TUNED_EVALUATION = 250  # images of a batch
MEAN, STD = 0.1307, 0.3081  # of the training images

PICTURES = "resnet18-"  # jobs on pictures of the size that follows, from a file as ``pictures_of`` names it
PICTURE_MEAN, PICTURE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Pairs = Iterable[tuple[Tensor, Tensor]]  # images (batch, channels, height, width) and labels


class Task(NamedTuple):
    """What a tool trains, and how.

    Args:
        root: holds MNIST/raw, or the pictures.
        num_images: the first training images, or None for all.
        precision: fp32, tf32 or bf16 (autocast); see ``prepare``.
        compiled: whether the network is compiled.
        workers: the processes of the usual DataLoader.
    """

    job: str
    root: Path
    num_images: int | None = None
    device: torch.device = torch.device("cpu")
    precision: str = "fp32"
    compiled: bool = False
    workers: int = 0

    @property
    def batch(self) -> int:
        """Images of a batch."""
        return batch_of(self.job)

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def model(self, *, tuned: bool = False) -> nn.Module:
        """The network on its device."""
        return self.prepared(tuned_network(self.job, self.device) if tuned else network(self.job))

    def prepared(self, model: nn.Module) -> nn.Module:
        """A network on the device, compiled if wanted."""
        model = model.to(self.device)
        if self.compiled:
            model.compile()
        return model

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def loss(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with self.autocast():
            return F.cross_entropy(model(images), labels)

    def moved(self, batches: Pairs) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches on the device."""
        for images, labels in batches:
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


def batch_of(job: str) -> int:
    """Images of a batch."""
    return 64 if job == f"{PICTURES}224" else BATCH


def pictures_of(job: str, root: Path) -> Path:
    """The file with the pictures of a job: the uint8 arrays train_x, train_y, test_x and test_y, channels last."""
    return root / f"pictures-{job.removeprefix(PICTURES)}.npz"


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
    if job.startswith(PICTURES):
        from trainer.data.torchvision_import import torchvision

        model: nn.Module = torchvision.models.resnet18(num_classes=10)
        return model
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


def tuned_network(job: str, device: torch.device) -> nn.Module:
    """The same function as ``network``, arranged so that torch is fast at it."""
    model = network(job)
    if isinstance(model, Rows) and isinstance(model.layer, nn.GRU) and device.type == "cpu":
        tuned = TunedRows(model.layer)
        tuned.out = model.out
        return tuned
    if job == "cnn":
        assert isinstance(model, nn.Sequential)
        for first in (1, 4):  # the largest value is the same before and after a ReLU
            model[first], model[first + 1] = model[first + 1], model[first]
    if job == "cnn" or job.startswith(PICTURES):
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
    return model


def read(task: Task, part: str) -> tuple[Tensor, Tensor]:
    """The images of ``train`` or ``test``, normalised, and their labels, on the device."""
    count = task.num_images if part == "train" else None
    if task.job.startswith(PICTURES):
        with np.load(pictures_of(task.job, task.root)) as arrays:
            images, labels = (torch.from_numpy(arrays[f"{part}_{name}"][:count]) for name in "xy")
        images = images.to(task.device).permute(0, 3, 1, 2)
        mean, std = (
            images.new_tensor(each, dtype=torch.float32).view(-1, 1, 1) for each in (PICTURE_MEAN, PICTURE_STD)
        )
        return images.float().div_(255).sub_(mean).div_(std), labels.to(task.device).long()
    raw, first = task.root / "MNIST" / "raw", "train" if part == "train" else "t10k"
    images, labels = (
        torch.frombuffer(bytearray((raw / f"{first}-{name}-ubyte").read_bytes()), dtype=torch.uint8)
        for name in ("images-idx3", "labels-idx1")
    )
    normalised = images[16:].view(-1, 1, 28, 28)[:count].to(task.device).float().div_(255).sub_(MEAN).div_(STD)
    return normalised, labels[8:][:count].to(task.device).long()


class ReadyMade:
    """Batches that are there already."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.batches = list(zip(images.split(BATCH), labels.split(BATCH), strict=True))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)


def shuffled(images: Tensor, labels: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches in a random order, each gathered in one go."""
    for batch in torch.randperm(len(images), device=images.device).split(size):
        yield images.index_select(0, batch), labels.index_select(0, batch)


class Pictures(Dataset[tuple[Tensor, int]]):
    """Pictures one by one, as torchvision's data sets give them."""

    def __init__(self, task: Task, part: str, transform: Callable[[Any], Tensor]) -> None:
        count = task.num_images if part == "train" else None
        with np.load(pictures_of(task.job, task.root)) as arrays:
            self.pictures, self.labels = arrays[f"{part}_x"][:count], arrays[f"{part}_y"][:count]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[place]), int(self.labels[place])


def usual_loaders(task: Task) -> tuple[Pairs, Pairs]:
    """Train and test as in torchvision's examples."""
    if task.job == "linear":
        return ReadyMade(*read(task, "train")), ReadyMade(*read(task, "test"))
    from trainer.data.torchvision_import import torchvision

    transforms, pictures = torchvision.transforms, task.job.startswith(PICTURES)
    scale = transforms.Normalize(PICTURE_MEAN, PICTURE_STD) if pictures else transforms.Normalize((MEAN,), (STD,))
    transform = transforms.Compose([transforms.ToTensor(), scale])
    train: Dataset[Any]
    test: Dataset[Any]
    if pictures:
        train, test = (Pictures(task, part, transform) for part in ("train", "test"))
    else:
        train, test = (torchvision.datasets.MNIST(task.root, train=part, transform=transform) for part in (True, False))
        if task.num_images is not None:
            train = Subset(train, range(task.num_images))
    options: dict[str, Any] = {"num_workers": task.workers, "pin_memory": task.on_gpu}
    return DataLoader(train, task.batch, shuffle=True, **options), DataLoader(test, task.batch, **options)


def accuracy(task: Task, model: nn.Module, batches: Pairs) -> float:
    """The share of right answers."""
    model.eval()
    right = total = 0
    with torch.no_grad(), task.autocast():
        for images, labels in task.moved(batches):
            right += int((model(images).argmax(1) == labels).sum())
            total += len(labels)
    return right / total


def prepare(task: Task) -> None:
    """Choose the seed and the precision of products, which belong to the whole process."""
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = task.precision == "tf32"


def loop(task: Task) -> float:
    """The loop that everyone writes."""
    from tqdm import tqdm

    train, test = usual_loaders(task)
    model = task.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    bar = tqdm(train)
    for images, labels in task.moved(bar):
        optimizer.zero_grad()
        loss = task.loss(model, images, labels)
        loss.backward()
        optimizer.step()
        bar.set_postfix(loss=loss.item(), refresh=False)
    return accuracy(task, model, test)


def limit(task: Task, *, tuned: bool = False) -> float:
    """Nothing but the arithmetic: no loader, no bar, no log."""
    if tuned:
        keep_freed_memory(True)
    model = task.model(tuned=tuned)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=tuned or None)
    data = read(task, "train")
    for images, labels in ReadyMade(*data) if task.job == "linear" else shuffled(*data, task.batch):
        loss = task.loss(model, images, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    test_images, test_labels = read(task, "test")
    size = TUNED_EVALUATION if tuned else task.batch
    return accuracy(task, model, zip(test_images.split(size), test_labels.split(size), strict=True))


def limit_tuned(task: Task) -> float:
    """The same arithmetic, with all that makes it fast."""
    return limit(task, tuned=True)


def lightning(task: Task) -> float:
    """A LightningModule and a Trainer with its bar, its checkpoint and TensorBoard, which it logs to every 50 steps."""
    from trainer.data.torchvision_import import torchvision  # noqa: F401, I001  # so that it can be imported by what comes next
    import lightning as L
    from lightning.pytorch.loggers import TensorBoardLogger

    train, test = usual_loaders(task)

    class Classifier(L.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network(task.job)
            if task.compiled:
                self.network.compile()

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

    trainer = L.Trainer(
        max_epochs=1,
        accelerator="gpu" if task.on_gpu else "cpu",
        devices=1,
        precision="bf16-mixed" if task.precision == "bf16" else "32-true",
        logger=TensorBoardLogger("logs"),
        log_every_n_steps=LOG_EVERY,
    )
    classifier = Classifier()
    trainer.fit(classifier, train)
    return float(trainer.test(classifier, test)[0]["test_accuracy"])


def accelerate(task: Task) -> float:
    """The loop through an Accelerator, with its bar, its TensorBoard tracker every 50 steps, and a checkpoint."""
    train, test = usual_loaders(task)
    from accelerate import Accelerator
    from accelerate.utils import tqdm

    mixed = "bf16" if task.precision == "bf16" else "no"
    accelerator = Accelerator(cpu=not task.on_gpu, mixed_precision=mixed, log_with="tensorboard", project_dir=".")
    accelerator.init_trackers("logs")
    model = network(task.job)
    if task.compiled:
        model.compile()
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


TOOLS: dict[str, Callable[[Task], float]] = {
    "loop": loop,
    "limit": limit,
    "limit, tuned": limit_tuned,
    "Lightning": lightning,
    "Accelerate": accelerate,
}


def main() -> None:
    """Train as the command line says."""
    tool, job, root, *steps = sys.argv[1:]
    count = int(steps[0]) * batch_of(job) if steps else None
    task = Task(job, Path(root), count)
    prepare(task)
    print(f"test accuracy {TOOLS[tool](task):.4f}")


if __name__ == "__main__":
    main()
