"""Float graph -> quantized graph: a grid for every tensor, integers for every constant.

Rules (docs/quantization.md):

1. A grid that the model brought along is kept, never re-estimated.
2. Operators that only move or select values keep their input's grid; a different grid that the model
   asks for becomes an identity `Lookup` (a table from one grid to the other).
3. Softmax gives 1/256, -128; sigmoid 1/256, -128; tanh 1/128, 0: their exact ranges.
4. Other activations get an asymmetric grid over their calibrated range.
5. Weights are symmetric per output channel, largest magnitude at 127; biases have the scale s_x * s_w.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from codegen.ir import Array, Graph, Node, Op, Quant, Tensor, per_tensor, verify_quantized
from codegen.ops.add import Add
from codegen.ops.average_pool import AveragePool
from codegen.ops.binarize import Binarize
from codegen.ops.binary_conv2d import BinaryConv2D
from codegen.ops.conv2d import Conv2D
from codegen.ops.dense import Dense
from codegen.ops.gated import Gated
from codegen.ops.lookup import Lookup
from codegen.ops.mean import Mean
from codegen.ops.mul import Mul
from codegen.quant import binary, recurrent
from codegen.quant.clipping import Range
from targets.errors import UnsupportedModel

SAME_GRID = frozenset(
    {"reshape", "transpose", "slice", "pad", "max_pool", "resize", "concat", "move"}
)
BITS = per_tensor(1.0, 0, 1)
FIXED_GRIDS = {
    "softmax": per_tensor(1 / 256, -128),
    "sigmoid": per_tensor(1 / 256, -128),
    "hard_sigmoid": per_tensor(1 / 256, -128),
    "tanh": per_tensor(1 / 128, 0),
    "sign": per_tensor(1.0, 0),
    "binarize": BITS,
    "bit_max_pool": BITS,
    "gated": per_tensor(1 / 128, 0),
}
WEIGHT_LIMIT = 127
WIDE_LIMIT = (
    2047  # of weights that another pass stores in fewer bits: as good as real numbers for it
)
BIAS_LIMIT = 2**30  # leaves the accumulator room above the bias
IMPORTED_ADD_BITS = 31


@dataclass(frozen=True, slots=True)
class GridStyle:
    """What grids of activations look like.

    Attributes:
        symmetric: zero point 0: the largest magnitude at the end of the range.
        power_of_two: scales are rounded up to powers of two.
        width: bits of an integer.
    """

    symmetric: bool = False
    power_of_two: bool = False
    width: int = 8


USUAL = GridStyle()


def activation_grid(values: Range, style: GridStyle = USUAL) -> Quant:
    """The grid over a range; asymmetric int8: scale = (high - low) / 255. 0 is exactly representable."""
    low, high = min(values.low, 0.0), max(values.high, 0.0)
    least, most = -(1 << (style.width - 1)), (1 << (style.width - 1)) - 1
    scale = max(-low, high) / most if style.symmetric else (high - low) / (most - least)
    scale = scale or 1.0
    if style.power_of_two:
        scale = float(np.exp2(np.ceil(np.log2(scale))))
    zero_point = 0 if style.symmetric else np.clip(np.rint(least - low / scale), least, most)
    return per_tensor(scale, int(zero_point), style.width)


def quantize(
    graph: Graph,
    found: Mapping[str, Range],
    imported: bool,
    wide: Collection[str] = (),
    style: GridStyle = USUAL,
) -> Graph:
    """The quantized graph.

    Args:
        graph: a float graph; tensors may carry grids of their own.
        found: calibrated ranges of activations; those with a grid of their own need none.
        imported: the model arrived quantized: its results are rounded as ONNX rounds them.
        wide: outputs of the layers whose weights get 12 bits (codegen.quant.lower then stores them in fewer).
        style: of the grids that are made here.

    Raises:
        UnsupportedModel: an activation has neither a grid nor a range.
    """
    grids = activation_grids(graph, found, style)
    builder = _Rewriter(graph, grids, imported, wide)
    for node in graph.nodes:
        builder.add(node)
    return verify_quantized(builder.finish())


def activation_grids(
    graph: Graph, found: Mapping[str, Range], style: GridStyle = USUAL
) -> dict[str, Quant]:
    """Grids of all activations, by rules 1 to 4."""
    grids = {n: t.quant for n, t in graph.tensors.items() if t.quant and t.data is None}
    for node in reversed(
        graph.nodes
    ):  # rule 2, backwards: a producer may write the final grid at once
        source = node.inputs[0]
        if node.op.kind not in SAME_GRID or node.output not in grids:
            continue
        for source in node.inputs:
            if source not in grids and len(graph.consumers(source)) == 1:
                grids[source] = grids[node.output]
    for port in graph.inputs:
        if port.tensor not in grids and graph.tensors[port.tensor].dtype is None:
            grids[port.tensor] = _calibrated(graph, port.tensor, found, style)
    _share_concat_grids(graph, found, grids, style)
    for node in graph.nodes:
        if node.output in grids or graph.tensors[node.output].dtype is not None:
            continue
        grids[node.output] = _grid_of(node, graph, grids, found, style)
    return grids


def _grid_of(
    node: Node,
    graph: Graph,
    grids: Mapping[str, Quant],
    found: Mapping[str, Range],
    style: GridStyle,
) -> Quant:
    """The grid of a result that neither the model nor a reader has given one."""
    if node.op.kind in SAME_GRID and node.inputs[0] in grids:
        return grids[node.inputs[0]]
    if node.op.kind == "gather":
        return activation_grid(_extent(graph.tensors[node.inputs[0]]), style)
    return _fixed_grid(node.op) or _calibrated(graph, node.output, found, style)


def _fixed_grid(op: Op) -> Quant | None:
    """The grid that an operator's results have by themselves."""
    if isinstance(op, BinaryConv2D) and op.binary:
        return BITS
    return FIXED_GRIDS.get(getattr(op, "function", op.kind))


def _share_concat_grids(
    graph: Graph, found: Mapping[str, Range], grids: dict[str, Quant], style: GridStyle
) -> None:
    """Lets the producers of a concatenation write its grid themselves where nobody else reads them."""
    for node in graph.nodes:
        joins = node.op.kind in ("concat", "move") and len(node.inputs) > 1
        if not joins or graph.tensors[node.output].dtype is not None:
            continue
        grid = grids.get(node.output) or _calibrated(graph, node.output, found, style)
        grids[node.output] = grid
        for source in node.inputs:
            producer = graph.producer(source)
            follows = producer is not None and producer.op.kind in SAME_GRID
            if len(graph.consumers(source)) == 1 and not follows:
                grids.setdefault(source, grid)


def _calibrated(graph: Graph, name: str, found: Mapping[str, Range], style: GridStyle) -> Quant:
    if name in found:
        return activation_grid(found[name], style)
    node = graph.producer(name)
    label = node.label if node else name
    raise UnsupportedModel(
        f"{label}: the model gives its output no quantization grid",
        hint="pass calibration data: --calib FILE.npz",
        node=label,
    )


@dataclass
class _Rewriter:
    """Rebuilds a graph node by node on the chosen grids."""

    graph: Graph
    grids: Mapping[str, Quant]
    imported: bool
    wide: Collection[str]

    def __post_init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        for port in self.graph.inputs:
            self._define(port.tensor)

    def finish(self) -> Graph:
        return replace(self.graph, tensors=self.tensors, nodes=tuple(self.nodes))

    def add(self, node: Node) -> None:
        if self.graph.tensors[node.output].dtype is not None:
            inputs = tuple(self._operand(name) for name in node.inputs)
        elif node.op.kind in SAME_GRID:
            inputs = tuple(self._regridded(node, name) for name in node.inputs)
        elif node.op.kind in ("conv2d", "dense"):
            inputs = (node.inputs[0], *self._weights(node))
        elif node.op.kind == "gather":
            inputs = (self._table(node), node.inputs[1])
            self._operand(node.inputs[1])
        elif isinstance(node.op, Gated):
            inputs = (node.inputs[0], *self._cells(node))
        elif isinstance(node.op, Binarize | BinaryConv2D):
            self._add_binary(node)
            return
        else:
            inputs = tuple(self._operand(name) for name in node.inputs)
        op = node.op
        if self.imported and isinstance(op, Add):
            op = replace(op, bits=IMPORTED_ADD_BITS)
        elif self.imported and isinstance(op, AveragePool | Conv2D | Dense | Mean | Mul):
            op = replace(op, rounding="float32")
        self._define(node.output)
        self.nodes.append(replace(node, op=op, inputs=inputs))

    def _add_binary(self, node: Node) -> None:
        """A layer of signs: its constants are integers of another kind."""
        self._define(node.output)
        x, out = self.tensors[node.inputs[0]], self.tensors[node.output]
        constants = tuple(self.graph.tensors[name] for name in node.inputs[1:])
        made, integers = binary.quantized(node, x, constants, out)
        self.tensors |= {tensor.name: tensor for tensor in integers}
        self.nodes.append(made)

    def _table(self, node: Node) -> str:
        """A table on the grid of what is picked from it."""
        name, table = f"{node.output}.table", self.graph.tensors[node.inputs[0]]
        grid = self.grids[node.output]
        stored = _stored(table.values.astype(np.float64), grid)
        self.tensors[name] = Tensor(name, table.shape, grid, stored)
        return name

    def _cells(self, node: Node) -> tuple[str, ...]:
        """Integer constants of a recurrent layer."""
        constants = tuple(self.graph.tensors[name] for name in node.inputs[1:])
        made = recurrent.quantized(node, constants)
        self.tensors |= {tensor.name: tensor for tensor in made}
        return tuple(tensor.name for tensor in made)

    def _define(self, name: str) -> None:
        tensor = self.graph.tensors[name]
        plain = tensor.dtype is not None
        self.tensors[name] = tensor if plain else Tensor(name, tensor.shape, self.grids[name])

    def _regridded(self, node: Node, name: str) -> str:
        """The operand on the grid of the node's output."""
        wanted = self.grids[node.output]
        if self.grids[name] == wanted:
            return name
        moved = f"{name}.to.{node.output}"
        if moved not in self.tensors:
            self.tensors[moved] = Tensor(moved, self.graph.tensors[name].shape, wanted)
            self.nodes.append(Node(Lookup("identity"), (name,), moved, node.sources))
        return moved

    def _operand(self, name: str) -> str:
        """An arena tensor as it is, a constant operand as int8."""
        tensor = self.graph.tensors[name]
        if tensor.data is not None and name not in self.tensors:
            kept = tensor.quant is not None or tensor.dtype is not None
            self.tensors[name] = tensor if kept else quantized_constant(tensor)
        return name

    def _weights(self, node: Node) -> tuple[str, str]:
        """Integer weights and bias of a convolution or dense layer, under names of their own."""
        x, w, b = (self.graph.tensors[name] for name in node.inputs)
        input_scale = self.grids[x.name].scale
        bias_real = _real(b)
        limit = _wide_limit(w) if node.output in self.wide else WEIGHT_LIMIT
        weights = w if w.quant else _quantized_weights(w, bias_real, input_scale, limit)
        weights = replace(weights, name=f"{node.output}.weights", quant=_per_channel(weights))
        scales = input_scale * np.array(weights.grid.scales)
        bias = np.rint(bias_real / scales)
        if np.abs(bias).max(initial=0) > 2**31 - 1:
            raise UnsupportedModel(
                f"{node.label}: a bias of {np.abs(bias).max():.0f} steps does not fit 32 bits",
                hint="the scales of input and weights are too small for this bias",
                node=node.label,
            )
        grid = Quant(tuple(scales.tolist()), (0,) * len(scales), 0, 32)
        name = f"{node.output}.bias"
        self.tensors[weights.name] = weights
        self.tensors[name] = Tensor(name, b.shape, grid, bias.astype(np.int32))
        return weights.name, name


def _real(tensor: Tensor) -> npt.NDArray[np.float64]:
    """Real values of a constant, float64."""
    if tensor.quant is None:
        return tensor.values.astype(np.float64)
    scales = np.array(tensor.quant.scales)
    zeros = np.array(tensor.quant.zero_points)
    if tensor.quant.axis is not None:
        along = [1] * tensor.values.ndim
        along[tensor.quant.axis] = -1
        scales, zeros = scales.reshape(along), zeros.reshape(along)
    real: npt.NDArray[np.float64] = (tensor.values.astype(np.float64) - zeros) * scales
    return real


def _wide_limit(weights: Tensor) -> int:
    """The largest magnitude of wide weights; less for dot products that would leave 32 bits."""
    length = weights.size // weights.shape[0]
    return max(WEIGHT_LIMIT, min(WIDE_LIMIT, 2**30 // (256 * length)))


def _quantized_weights(tensor: Tensor, bias: Array, input_scale: float, limit: int) -> Tensor:
    """Symmetric integers up to a limit, per output channel (axis 0): int8, or int16 beyond 127.

    A channel whose weights are so small that its bias would not fit gets a coarser scale.
    """
    w = tensor.values.astype(np.float64)
    largest = np.abs(w).reshape(len(w), -1).max(axis=1)
    scales = np.maximum(largest / limit, np.abs(bias) / (BIAS_LIMIT * input_scale))
    scales[scales == 0] = 1.0
    along = scales.reshape(-1, *[1] * (w.ndim - 1))
    width = 8 if limit <= WEIGHT_LIMIT else 16
    stored = np.clip(np.rint(w / along), -limit, limit).astype(f"int{width}")
    grid = Quant(tuple(scales.tolist()), (0,) * len(scales), 0, width)
    return replace(tensor, quant=grid, data=stored)


def _per_channel(weights: Tensor) -> Quant:
    """The grid of weights with one scale per output channel, whatever the model wrote."""
    if weights.grid.axis == 0:
        return weights.grid
    channels = weights.shape[0]
    return replace(
        weights.grid,
        scales=weights.grid.scales * channels,
        zero_points=weights.grid.zero_points * channels,
        axis=0,
    )


def quantized_constant(tensor: Tensor) -> Tensor:
    """A constant operand of an elementwise operator on an int8 grid of its own."""
    grid = activation_grid(_extent(tensor))
    return replace(tensor, quant=grid, data=_stored(tensor.values.astype(np.float64), grid))


def _extent(tensor: Tensor) -> Range:
    return Range(float(tensor.values.min()), float(tensor.values.max()))


def _stored(values: npt.NDArray[np.float64], grid: Quant) -> npt.NDArray[np.int8]:
    """Real values as int8 on a grid, halves to even."""
    steps = np.clip(np.rint(values / grid.scale) + grid.zero_point, -128, 127)
    return np.asarray(steps, np.int8)
