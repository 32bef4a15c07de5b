"""Data sets: samples, labels and calibration inputs from .npz, .npy or a folder of .npy files.

An .npz holds `x` (batch first; integers with `x_scale` and `x_zero_point`, real = (x - zero_point) * scale),
and may hold `y`, `calib_x`, `metric` and `group`. Models with several inputs take one array per input,
under the inputs' names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codegen import archives
from codegen.ir import Array, Port, Quant, per_tensor
from targets.errors import UsageError

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """Samples for a model.

    Attributes:
        x: one array per model input, batch first, ONNX layout, as stored.
        grids: the integer grid of each stored array; None where it holds real values.
        y: labels or targets.
        group: for every sample the index of the clip that it belongs to.
        metric: how to score, as the file says.
    """

    x: tuple[Array, ...]
    grids: tuple[Quant | None, ...]
    y: Array | None = None
    group: Array | None = None
    metric: str | None = None

    def __len__(self) -> int:
        return len(self.x[0])

    def real(self, start: int = 0, stop: int | None = None) -> tuple[FloatArray, ...]:
        """Real values of samples start..stop, float32."""
        return tuple(_real(x[start:stop], grid) for x, grid in zip(self.x, self.grids, strict=True))

    def spread(self, count: int) -> DataSet:
        """At most `count` samples, evenly spaced: neighbours may be much alike. Without labels."""
        chosen = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64))
        return replace(self, x=tuple(x[chosen] for x in self.x), y=None, group=None)

    def head(self, count: int) -> DataSet:
        """The first `count` samples, without labels."""
        return replace(self, x=tuple(x[:count] for x in self.x), y=None, group=None)


def load(spec: str, ports: Sequence[Port], key: str = "x") -> DataSet:
    """The data set that an option names.

    Args:
        spec: `FILE.npz`, `FILE.npz:key`, `FILE.npy` or a folder of .npy files.
        ports: the model's inputs: the samples must have their shapes.
        key: array to take when the spec names none.

    Raises:
        UsageError: no such file or key, or samples of another shape; the text says which and what fits.
    """
    path, named = _split(spec)
    arrays = _read(path)
    chosen = named or key
    if len(ports) > 1 and not named:
        missing = [p.name for p in ports if p.name not in arrays]
        if missing:
            raise UsageError(
                f"{path}: no array for model input {missing[0]!r}",
                hint=f"several inputs take one array each, by name; found {', '.join(arrays)}",
            )
        found = DataSet(tuple(arrays[p.name] for p in ports), (None,) * len(ports))
    else:
        if chosen not in arrays:
            raise UsageError(
                f"{path}: no array {chosen!r}",
                hint=f"it holds {', '.join(sorted(arrays))}; name one as {path}:KEY",
            )
        found = DataSet((arrays[chosen],), (_grid(arrays, arrays[chosen]),))
    metric = str(arrays["metric"]) if "metric" in arrays else None
    found = replace(found, y=arrays.get("y"), group=arrays.get("group"), metric=metric)
    return _fitted(path, found, ports)


def has_key(spec: str, key: str) -> bool:
    """Whether an .npz file holds an array of this name."""
    path, named = _split(spec)
    return named is None and path.suffix == ".npz" and key in _read(path)


def _split(spec: str) -> tuple[Path, str | None]:
    whole = Path(spec)
    if whole.exists() or ":" not in spec:
        return whole, None
    name, _, key = spec.rpartition(":")
    return Path(name), key


def _read(path: Path) -> Mapping[str, Array]:
    if not path.exists():
        raise UsageError(f"data file {path} does not exist")
    try:
        if path.is_dir():
            files = sorted(path.glob("*.npy"))
            if not files:
                raise UsageError(f"{path}: the folder holds no .npy files")
            return {"x": np.stack([_only(file) for file in files])}
        found = archives.read(path)
    except (ValueError, OSError) as error:
        raise UsageError(f"{path}: not a readable .npz or .npy file ({error})") from error
    return {name or "x": array for name, array in found.items()}


def _only(path: Path) -> Array:
    """The array of an .npy file."""
    (array,) = archives.read(path).values()
    return array


def _grid(arrays: Mapping[str, Array], x: Array) -> Quant | None:
    if not np.issubdtype(x.dtype, np.integer):
        return None
    if "x_scale" not in arrays:
        return None
    scale = float(arrays["x_scale"])
    if not (np.isfinite(scale) and scale > 0):
        raise UsageError(f"x_scale is {scale}, not a positive number")
    return per_tensor(scale, int(arrays.get("x_zero_point", np.int64(0))), x.dtype.itemsize * 8)


def _real(x: Array, grid: Quant | None) -> FloatArray:
    real = x.astype(np.float32)
    if grid is not None:
        real = (real - grid.zero_point) * np.float32(grid.scale)
    return real


def _fitted(path: Path, data: DataSet, ports: Sequence[Port]) -> DataSet:
    """The data set with samples of the models' shapes, or windows of them."""
    for x, port in zip(data.x, ports, strict=True):
        if x.ndim == 0 or len(x) == 0:
            raise UsageError(f"{path}: no samples")
        if x.shape[1:] == port.shape[1:]:
            continue
        if len(ports) == 1 and _windows_fit(x.shape, port.shape):
            return _windowed(data, port)
        raise UsageError(
            f"{path}: samples have shape {x.shape[1:]}, input {port.name!r} takes {port.shape[1:]}"
        )
    return data


def _windows_fit(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    size = int(np.prod(wanted))
    return len(shape) == 3 and size % shape[2] == 0 and 0 < size // shape[2] <= shape[1]


def _windowed(data: DataSet, port: Port) -> DataSet:
    """Every window of successive rows as one sample; the clip it came from is its group."""
    x = data.x[0]
    rows = int(np.prod(port.shape)) // x.shape[2]
    windows = np.lib.stride_tricks.sliding_window_view(x, rows, axis=1).swapaxes(2, 3)
    per_clip = windows.shape[1]
    samples = windows.reshape(len(x) * per_clip, *port.shape[1:])
    return replace(data, x=(samples,), group=np.repeat(np.arange(len(x)), per_clip))
