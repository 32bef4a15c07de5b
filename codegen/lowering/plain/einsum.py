"""Einsum: diagonals, sums and transpositions of each operand, then products of matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from codegen.build import Builder, Converter, OnnxNode
from codegen.lowering.plain.copies import part, transpose
from codegen.lowering.plain.shapes import reshape
from codegen.ops.matmul import MatMul
from codegen.ops.pool import Pool

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Term:
    """A plain tensor with a label per axis."""

    tensor: str
    labels: Labels


def _parsed(node: OnnxNode, ranks: Sequence[int]) -> tuple[list[Labels], Labels]:
    """Labels of the operands and of the result; "..." becomes labels that no letter has."""
    left, arrow, right = node.text("equation", "").replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != len(ranks):
        raise node.unsupported(f"the equation has {len(texts)} terms for {len(ranks)} operands")
    terms = [_labels(node, text, rank) for text, rank in zip(texts, ranks, strict=True)]
    dots = max((sum(label.isdigit() for label in term) for term in terms), default=0)
    rest = tuple(str(index) for index in reversed(range(dots)))
    if arrow:
        before, ellipsis, behind = right.partition("...")
        result = (*before, *(rest if ellipsis else ()), *behind)
    else:
        letters = [label for term in terms for label in term if not label.isdigit()]
        result = (*rest, *sorted(label for label in letters if letters.count(label) == 1))
    known = {label for term in terms for label in term}
    if len(set(result)) != len(result) or not known.issuperset(result):
        raise node.unsupported("the result repeats a label or has one of its own")
    return terms, result


def _labels(node: OnnxNode, text: str, rank: int) -> Labels:
    before, ellipsis, behind = text.partition("...")
    dots = rank - len(before) - len(behind)
    named = before + behind
    if dots < 0 or (dots and not ellipsis) or not (named.isalpha() or not named):
        raise node.unsupported(f"term {text!r} does not suit {rank} axes")
    return (*before, *(str(index) for index in reversed(range(dots))), *behind)


def _diagonal(b: Builder, term: _Term, sources: tuple[str, ...]) -> _Term:
    """A term whose labels are all different: of axes with one label the diagonal is taken."""
    for label in dict.fromkeys(term.labels):
        while term.labels.count(label) > 1:
            first = term.labels.index(label)
            second = term.labels.index(label, first + 1)
            kept = [axis for axis in range(len(term.labels)) if axis not in (first, second)]
            moved = transpose(b, term.tensor, (*kept, first, second), sources)
            *shape, size, other = b.plain_shape(moved)
            if size != other:
                raise ValueError(f"label {label} has sizes {size} and {other}")
            flat = reshape(b, moved, (*shape, size * size), sources)
            spans = (*map(range, shape), range(0, size * size, size + 1))
            labels = (*(term.labels[axis] for axis in kept), label)
            term = _Term(part(b, flat, spans, sources), labels)
    return term


def _summed(b: Builder, term: _Term, needed: set[str], sources: tuple[str, ...]) -> _Term:
    """A term without the axes that nobody needs; axes of size 1 of "..." are dropped too."""
    shape = b.plain_shape(term.tensor)
    single = [label.isdigit() and size == 1 for label, size in zip(term.labels, shape, strict=True)]
    tensor = reshape(
        b, term.tensor, tuple(n for n, one in zip(shape, single, strict=True) if not one)
    )
    labels = tuple(label for label, one in zip(term.labels, single, strict=True) if not one)
    for label in [label for label in labels if label not in needed]:
        axis, shape = labels.index(label), b.plain_shape(tensor)
        pool = Pool("sum", axis + 1, (shape[axis],), (1,), (0,), (0,), (1,))
        made = b.emit(pool, (tensor,), sources)
        tensor = reshape(b, made, (*shape[:axis], *shape[axis + 1 :]), sources)
        labels = (*labels[:axis], *labels[axis + 1 :])
    return _Term(tensor, labels)


def _contracted(
    b: Builder, left: _Term, right: _Term, needed: set[str], sources: tuple[str, ...]
) -> _Term:
    """The product of two terms, summed over the labels that both have and nobody needs."""
    both = [label for label in left.labels if label in right.labels]
    batch = [label for label in both if label in needed]
    inner = [label for label in both if label not in needed]
    rows = [label for label in left.labels if label not in both]
    columns = [label for label in right.labels if label not in both]
    sizes = _sizes(b, left) | _sizes(b, right)

    def matrices(term: _Term, *parts: list[str]) -> str:
        order = [term.labels.index(label) for labels in parts for label in labels]
        moved = transpose(b, term.tensor, order, sources)
        return reshape(b, moved, tuple(prod(sizes[i] for i in part) for part in parts), sources)

    a, c = matrices(left, batch, rows, inner), matrices(right, batch, inner, columns)
    made = b.emit(MatMul(), (a, c), sources)
    labels = (*batch, *rows, *columns)
    return _Term(reshape(b, made, tuple(sizes[label] for label in labels), sources), labels)


def _sizes(b: Builder, term: _Term) -> dict[str, int]:
    return dict(zip(term.labels, b.plain_shape(term.tensor), strict=True))


def _einsum(node: OnnxNode, b: Builder) -> None:
    names = [b.plain(node, index) for index in range(len(node.inputs))]
    labels, result = _parsed(node, [len(b.plain_shape(name)) for name in names])
    try:
        terms = [
            _diagonal(b, _Term(name, found), node.sources)
            for name, found in zip(names, labels, strict=True)
        ]
    except ValueError as error:
        raise node.unsupported(str(error)) from error
    total = _prepared(b, terms, 0, result, node.sources)
    for index in range(1, len(terms)):
        later = {label for term in terms[index + 1 :] for label in term.labels}
        other = _prepared(b, terms, index, (*result, *total.labels), node.sources)
        total = _contracted(b, total, other, later | set(result), node.sources)
    # Axes of size 1 that were dropped come back.
    kept = [label for label in result if label in total.labels]
    moved = transpose(b, total.tensor, [total.labels.index(label) for label in kept], node.sources)
    sizes = _sizes(b, total)
    b.write(node, reshape(b, moved, tuple(sizes.get(label, 1) for label in result), node.sources))


def _prepared(
    b: Builder, terms: list[_Term], index: int, result: Labels, sources: tuple[str, ...]
) -> _Term:
    others = {label for term in terms[index + 1 :] for label in term.labels}
    return _summed(b, terms[index], others | set(result), sources)


ONNX: Mapping[str, Converter] = {"Einsum": _einsum}
