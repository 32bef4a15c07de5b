"""The training loop: distillation from the float network, early stopping on held-out samples, checkpoints."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from math import cos, pi
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.nn import functional

from codegen.data import DataSet
from codegen.execute import to_device
from codegen.ir import Array, Graph, IntArray
from codegen.train.augment import augmented
from codegen.train.network import (
    FloatNetwork,
    LearningFloat,
    Network,
    parameters_of,
    restore,
    tensor,
)
from targets.errors import UsageError

Tensor: TypeAlias = Any
CHECKPOINT = "checkpoint.pt"
TEMPERATURE = 2.0  # of distillation
SCALE_RATE = 0.1  # of the learning rate of weights
WARMUP = 0.05  # of all steps


@dataclass(frozen=True, slots=True)
class Training:
    """How to train.

    Attributes:
        epochs: at most.
        batch: samples to a step.
        rate: learning rate of weights; falls to 0 along a cosine.
        distill: share of the float network's answers in the loss, labels have the rest; 1 without labels.
        held_out: share of the samples that are kept for early stopping.
        patience: epochs without a better loss on those, after which training ends.
        minutes: after which training ends, the learning rate at 0; None = no limit.
        shift: pixels by which images are moved at most, to vary them.
        flip: whether images are mirrored at random.
        stochastic: whether binary weights draw their signs at random while training.
        seed: of the order of samples and everything random.
    """

    epochs: int = 20
    batch: int = 32
    rate: float = 1e-3
    distill: float = 0.7
    held_out: float = 0.1
    patience: int = 8
    minutes: float | None = None
    shift: int = 0
    flip: bool = False
    stochastic: bool = False
    seed: int = 0


@dataclass(slots=True)
class Progress:
    """How far training is, and the best so far. Losses and accuracies are of held-out samples.

    `seconds` is processor time, which other work on the machine does not change.
    """

    epoch: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_loss: float = float("inf")
    losses: list[float] = field(default_factory=list)
    accuracies: list[float | None] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Training data: inputs as stored, and labels where outputs are classes."""

    graph: Graph
    found: DataSet
    labels: IntArray | None

    def inputs(self, rows: Array) -> tuple[Tensor, ...]:
        """Real inputs in device layout."""
        part = DataSet(tuple(x[rows] for x in self.found.x), self.found.grids)
        ports = zip(self.graph.inputs, part.real(), strict=True)
        return tuple(tensor(to_device(port, x)) for port, x in ports)

    def labels_of(self, rows: Array) -> Tensor | None:
        """Labels, where there are any."""
        return None if self.labels is None else torch.from_numpy(self.labels[rows])


class _Clock:
    """How much of a time limit is spent."""

    def __init__(self, minutes: float | None):
        self.start, self.minutes = time.monotonic(), minutes

    def spent(self) -> float:
        """A share of 1; 0 without a limit."""
        if self.minutes is None:
            return 0.0
        return (time.monotonic() - self.start) / (60 * self.minutes)


class Trainer:
    """Trains a network in place.

    Attributes:
        progress: how it went.
    """

    def __init__(
        self,
        network: Network | LearningFloat,
        samples: Samples,
        how: Training,
        folder: Path | None = None,
    ):
        """Splits the samples; goes on from the checkpoint in `folder` where there is one."""
        self.network, self.samples, self.how, self.folder = network, samples, how, folder
        self.teacher = FloatNetwork(network.teacher)
        self.progress = Progress()
        self.random = torch.Generator().manual_seed(how.seed)
        self.classes = samples.labels is not None or any(
            (node := network.graph.producer(port.tensor)) is not None and node.op.kind == "softmax"
            for port in network.graph.outputs
        )
        order = np.random.default_rng(how.seed).permutation(len(samples.found))
        held = min(max(1, round(how.held_out * len(order))), len(order) - 1)
        self.held_out, self.rows = order[:held], order[held:]
        self.steps = how.epochs * -(-len(self.rows) // how.batch)
        weights = [p for name, p in network.learning() if name.startswith(("weights/", "bias/"))]
        scales = [p for name, p in network.learning() if not name.startswith(("weights/", "bias/"))]
        groups = [{"params": weights, "share": 1.0}, {"params": scales, "share": SCALE_RATE}]
        self.optimizer = torch.optim.Adam(groups, lr=how.rate)
        self.best = parameters_of(network)
        if folder is not None and (folder / CHECKPOINT).exists():
            self._resume(folder / CHECKPOINT)

    def run(self, advance: Callable[[int], None]) -> None:
        """Trains to the end and leaves the best parameters in the network.

        Args:
            advance: called with 1 after every epoch.
        """
        torch.set_num_threads(1)
        clock = _Clock(self.how.minutes)
        if not self.progress.losses:
            self._judge()
        advance(self.progress.epoch)
        while not self._finished():
            begun = time.process_time()
            whole = self._epoch(clock)
            self.progress.epoch += whole
            self._judge()
            self.progress.seconds += time.process_time() - begun
            if not whole:
                break
            self._save()
            advance(1)
        restore(self.network, self.best)

    def evaluate(self, rows: Array, teacher: bool = False) -> tuple[float, float | None]:
        """Mean loss, and accuracy where labels are known; of the float network if asked."""
        total, right = 0.0, 0
        model = self.teacher if teacher else self.network
        with torch.no_grad():
            for part in np.array_split(rows, -(-len(rows) // 256)):
                inputs, labels = self.samples.inputs(part), self.samples.labels_of(part)
                found = model.logits(inputs)
                total += float(self._loss(found, self.teacher.logits(inputs), labels)) * len(part)
                if labels is not None:
                    right += int((found[0].flatten(1).argmax(1) == labels).sum())
        accuracy = None if self.samples.labels is None else right / len(rows)
        return total / len(rows), accuracy

    def _finished(self) -> bool:
        done = self.progress
        return done.epoch >= self.how.epochs or done.epoch - done.best_epoch >= self.how.patience

    def _epoch(self, clock: _Clock) -> bool:
        """One pass over the samples; False when the time is up before its end."""
        order = self.rows[torch.randperm(len(self.rows), generator=self.random).numpy()]
        batches = np.array_split(order, -(-len(order) // self.how.batch))
        for number, rows in enumerate(batches):
            spent = clock.spent()
            if spent >= 1:
                return False
            done = (self.progress.epoch * len(batches) + number) / self.steps
            self._step(rows, max(done, spent))
        return True

    def _step(self, rows: Array, share: float) -> None:
        rate = (
            self.how.rate * min(1.0, (share + 1 / self.steps) / WARMUP) * (1 + cos(pi * share)) / 2
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        inputs = self.samples.inputs(rows)
        if self.how.shift or self.how.flip:
            inputs = augmented(inputs, self.how.shift, self.how.flip, self.random)
        labels = self.samples.labels_of(rows)
        with torch.no_grad():
            unheard = self.classes and labels is not None and self.how.distill == 0
            wanted = None if unheard else self.teacher.logits(inputs)
        random = self.random if self.how.stochastic else None
        found = self.network.logits(inputs, random)
        self.optimizer.zero_grad()
        self._loss(found, wanted, labels).backward()
        self.optimizer.step()

    def _loss(
        self, found: tuple[Tensor, ...], wanted: tuple[Tensor, ...] | None, labels: Tensor | None
    ) -> Tensor:
        """Distillation and labels; without classes the squared error, relative to the float outputs.

        Args:
            found: of the network.
            wanted: of the float network; None where labels say it all.
            labels: class numbers, where there are any.
        """
        if wanted is not None and not self.classes:
            errors = ((y - t) ** 2 for y, t in zip(found, wanted, strict=True))
            sizes = ((t**2).mean() for t in wanted)
            return sum(e.mean() / (s + 1e-12) for e, s in zip(errors, sizes, strict=True))
        share = 1.0 if labels is None else self.how.distill
        total = torch.zeros(())
        for y, t in zip(found, wanted or (), strict=wanted is not None):
            total = total + share * _divergence(y.flatten(1), t.flatten(1))
        for y in found if labels is not None else ():
            total = total + (1 - share) * functional.cross_entropy(y.flatten(1), labels)
        return total

    def _judge(self) -> None:
        """Evaluates on the held-out samples and keeps what is best."""
        loss, accuracy = self.evaluate(self.held_out)
        done = self.progress
        done.losses.append(loss)
        done.accuracies.append(accuracy)
        if loss < done.best_loss:
            done.best_loss, done.best_epoch = loss, done.epoch
            self.best = parameters_of(self.network)

    def _fingerprint(self) -> dict[str, object]:
        """What a checkpoint must agree in; the time limit may change."""
        shapes = {name: list(p.shape) for name, p in self.network.parameters.items()}
        kept = asdict(self.how)
        kept.pop("minutes")
        return {"training": kept, "shapes": shapes, "samples": len(self.samples.found)}

    def _save(self) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "fingerprint": self._fingerprint(),
            "parameters": parameters_of(self.network),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "random": self.random.get_state(),
            "progress": asdict(self.progress),
        }
        fresh = self.folder / f".{CHECKPOINT}.new"
        torch.save(state, fresh)
        os.replace(fresh, self.folder / CHECKPOINT)

    def _resume(self, path: Path) -> None:
        try:
            state = torch.load(path, weights_only=True)
            known = state["fingerprint"]
        except Exception as error:
            raise UsageError(f"{path}: no readable checkpoint", hint="delete it") from error
        if known != self._fingerprint():
            raise UsageError(
                f"{path}: a checkpoint of another training",
                hint="name another folder with --resume, or the same model, data and options",
            )
        restore(self.network, state["parameters"])
        self.best = state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.random.set_state(state["random"])
        self.progress = Progress(**state["progress"])


def _divergence(found: Tensor, wanted: Tensor) -> Tensor:
    """Of softened answers (samples, classes), by the sample (Hinton et al., 2015)."""
    soft = functional.log_softmax(found / TEMPERATURE, 1)
    target = functional.log_softmax(wanted / TEMPERATURE, 1)
    kl = functional.kl_div(soft, target, reduction="batchmean", log_target=True)
    return TEMPERATURE**2 * kl


def labels_of(graph: Graph, found: DataSet) -> IntArray | None:
    """Labels as class numbers where the first output holds one score per class; None for other targets."""
    if found.y is None or found.y.ndim != 1 or not np.issubdtype(found.y.dtype, np.integer):
        return None
    scores = graph.tensors[graph.outputs[0].tensor].size
    if scores < 2 or found.y.min() < 0 or found.y.max() >= scores:
        return None
    return found.y.astype(np.int64)
