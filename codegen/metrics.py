"""How good outputs are: the metrics that a data file or --metric can name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from targets.errors import UsageError

Numbers = npt.NDArray[Any]
MAX_CLASSES = 32  # a larger matrix of confusions tells nobody anything


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What a metric may look at: real values, samples along axis 0."""

    inputs: Numbers
    outputs: Numbers
    y: Numbers
    group: Numbers | None = None


def top1(scored: Scored) -> float:
    """Share of samples whose largest output is the label's."""
    flat = scored.outputs.reshape(len(scored.outputs), -1)
    return float(np.mean(flat.argmax(axis=1) == scored.y))


def confusion(scored: Scored) -> list[list[int]] | None:
    """How many samples of each label (row) were given each class (column); None beyond MAX_CLASSES."""
    flat = scored.outputs.reshape(len(scored.outputs), -1)
    classes = flat.shape[1]
    labels = scored.y.astype(np.int64).ravel()
    if not 2 <= classes <= MAX_CLASSES or len(labels) != len(flat):
        return None
    if labels.min() < 0 or labels.max() >= classes:
        return None
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, flat.argmax(axis=1)), 1)
    return [[int(count) for count in row] for row in counts]


def auc_reconstruction(scored: Scored) -> float:
    """Area under the ROC curve of an autoencoder's error.

    The score of a group (clip) is the mean over its samples of mean((output - input)^2).
    """
    count = len(scored.outputs)
    difference = scored.outputs.reshape(count, -1) - scored.inputs.reshape(count, -1)
    errors = np.mean(np.square(difference, dtype=np.float64), axis=1)
    if scored.group is not None:
        sums = np.bincount(scored.group, errors)
        errors = sums / np.bincount(scored.group)
    return _auc(errors, scored.y.astype(bool))


def mse(scored: Scored) -> float:
    """Mean squared error against the targets."""
    difference = scored.outputs.reshape(scored.y.shape) - scored.y
    return float(np.mean(np.square(difference, dtype=np.float64)))


def mae(scored: Scored) -> float:
    """Mean absolute error against the targets."""
    difference = scored.outputs.reshape(scored.y.shape) - scored.y
    return float(np.mean(np.abs(difference), dtype=np.float64))


METRICS: Mapping[str, Callable[[Scored], float]] = {
    "top1": top1,
    "auc-reconstruction": auc_reconstruction,
    "mse": mse,
    "mae": mae,
}


def find(name: str) -> Callable[[Scored], float]:
    """The metric of this name; UsageError with a suggestion for others."""
    if name not in METRICS:
        close = difflib.get_close_matches(name, METRICS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(METRICS)}"
        raise UsageError(f"unknown metric {name!r}", hint=hint)
    return METRICS[name]


def _auc(scores: Numbers, positive: Numbers) -> float:
    """Probability that a positive scores above a negative, ties counting half (Mann-Whitney)."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    ranks = np.empty(len(scores), np.float64)
    _, first, counts = np.unique(ordered, return_index=True, return_counts=True)
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)
    positives = int(positive.sum())
    negatives = len(scores) - positives
    if positives == 0 or negatives == 0:
        raise UsageError("AUC needs labels of both kinds", hint="y must hold 0 and 1")
    above = float(ranks[positive].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)
