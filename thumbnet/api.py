"""The Python interface: `compile` a model, then `emulate`, `report`, `export` or `save` it.

Heavy modules load on first use, as on the command line.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from thumbnet.compiler import Compiled

    Samples = npt.NDArray[Any] | Mapping[str, npt.NDArray[Any]]
    FloatArray = npt.NDArray[np.float32]

TABLE = ("name", "kernel", "macs", "weight_bytes", "arena_bytes", "instructions", "cycles")


@dataclass(frozen=True, slots=True, eq=False)
class Emulation:
    """Inferences on the emulated core.

    Attributes:
        outputs: real values, float32, samples first, in the ONNX layout; one array per model output.
        found: the JSON object of `thumbnet emulate`.
    """

    outputs: tuple[FloatArray, ...]
    found: dict[str, Any]

    @property
    def matches_reference(self) -> bool:
        """Whether every output byte equals the NumPy reference's."""
        return bool(self.found["matches_reference"])

    @property
    def cycles(self) -> int:
        """Cycles of one inference by the target's own model; latency_ms rests on them."""
        return int(self.found["timing"]["cycles"])

    @property
    def latency_ms(self) -> float:
        """Predicted time of one inference at the target's clock."""
        return float(self.found["latency_ms"])

    @property
    def sram(self) -> int:
        """Bytes of RAM that the model needs: arena, scratch, stack."""
        return int(self.found["sram"]["total"])

    @property
    def flash(self) -> int:
        """Bytes of flash: weights, constants, code."""
        return int(self.found["flash"]["total"])

    @property
    def layers(self) -> list[dict[str, Any]]:
        """One object per layer, as in the JSON."""
        return list(self.found["layers"])

    def _repr_html_(self) -> str:
        return _html(self.found)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Model:
    """A compiled model: its C project, checked and rendered, not yet built.

    Attributes:
        compiled: graphs, plan, files.
        folder: where the project lies as long as this object lives; `save` keeps it.
    """

    compiled: Compiled
    folder: Path

    @property
    def manifest(self) -> dict[str, Any]:
        """The JSON object of `thumbnet generate`."""
        return self.compiled.manifest

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the compiler wants its user to know."""
        return self.compiled.warnings

    @property
    def files(self) -> Mapping[str, bytes]:
        """The project's files by name."""
        return self.compiled.files

    def save(self, folder: str | Path) -> Path:
        """Writes the C project, as `thumbnet generate` does."""
        from thumbnet import project

        project.write(Path(folder), self.compiled.files)
        return Path(folder)

    def emulate(
        self,
        x: Samples | None = None,
        y: Sequence[int] | npt.NDArray[Any] | None = None,
        *,
        metric: str | None = None,
        max_samples: int = 20,
    ) -> Emulation:
        """Builds the firmware and runs it on the emulated core.

        Args:
            x: real values, samples first, in the ONNX layout: (count, *input shape); a mapping from
                input names where there are several. None takes random inputs.
            y: labels or targets, one per sample, to score with `metric`.
            metric: "top1", "mse", ...; labels alone mean "top1".
            max_samples: how many to emulate; accuracy takes all of them, through the host build.

        Raises:
            ThumbnetError: inputs of another shape, no compiler, a faulting firmware.
        """
        from thumbnet import verify
        from thumbnet.options import RunOptions

        if y is not None and x is None:
            raise UsageError("labels without samples", hint="pass x as well")
        arrays = {} if x is None else _arrays(x)
        if y is not None:
            arrays["y"] = _array(y)
        with tempfile.TemporaryDirectory(prefix="thumbnet-") as scratch:
            options = RunOptions(
                data=_saved(arrays, Path(scratch)) if arrays else None,
                metric=(metric or "top1") if y is not None else None,
                max_samples=max_samples,
            )
            done = verify.measure(self.folder, options, self.compiled.float_graph)
        return Emulation(verify.real_outputs(self.compiled.plan.graph, done.runs), done.found)

    def report(self, path: str | Path, x: Samples | None = None) -> Path:
        """Writes the HTML report; real inputs `x` give it the errors of every layer."""
        from thumbnet import report
        from thumbnet.options import RunOptions

        with tempfile.TemporaryDirectory(prefix="thumbnet-") as scratch:
            data = None if x is None else _saved(_arrays(x), Path(scratch))
            options = RunOptions(data=data, accuracy="none")
            made = report.make(self.folder, options, float_graph=self.compiled.float_graph)
        report.write(Path(path), made)
        return Path(path)

    def export(self, kind: str, output: str | Path) -> Path:
        """Writes a package: "cmake", "make", "arduino", "platformio", "zephyr", "cmsis-pack"."""
        from thumbnet import packaging

        if kind not in packaging.KINDS:
            raise UsageError(
                f"unknown package {kind!r}", hint=f"known: {', '.join(packaging.KINDS)}"
            )
        packaging.export(self.folder, kind, Path(output))
        return Path(output)

    def _repr_html_(self) -> str:
        return _html(self.manifest)


def compile(
    model: str | Path,
    target: str = "generic-m4",
    *,
    calib: Samples | str | Path | None = None,
    **options: Any,
) -> Model:
    """Takes an ONNX file to a checked C project.

    Args:
        model: the file.
        target: a board's name, or a TOML of yours.
        calib: calibration inputs as an array (count, *input shape) or a mapping of them, a data file,
            or "random"; models that arrive quantized need none.
        options: fields of `thumbnet.options.CompileOptions`: optimize, seed, budget, shapes, ...

    Raises:
        ThumbnetError: anything wrong with model, data or options, or a target that is too small.
    """
    from thumbnet import compiler, project
    from thumbnet.options import CompileOptions

    with tempfile.TemporaryDirectory(prefix="thumbnet-") as scratch:
        if calib is None or isinstance(calib, str | Path):
            spec = None if calib is None else str(calib)
        else:
            spec = _saved(_arrays(calib), Path(scratch))
        try:
            chosen = CompileOptions(target=target, calib=spec, **options)
        except TypeError as error:
            raise UsageError(
                f"compile: {error}", hint="see thumbnet.options.CompileOptions"
            ) from error
        compiled = compiler.compile_model(Path(model), chosen)
    place = Path(tempfile.mkdtemp(prefix="thumbnet-"))
    made = Model(compiled, place / compiled.plan.graph.name)
    weakref.finalize(made, shutil.rmtree, place, ignore_errors=True)
    project.write(made.folder, compiled.files)
    return made


def _array(values: Any) -> npt.NDArray[Any]:
    import numpy as np

    return np.asarray(values)


def _arrays(x: Samples) -> dict[str, npt.NDArray[Any]]:
    """Samples as a data file holds them: real values."""
    if isinstance(x, Mapping):
        return {name: _array(values).astype("float32") for name, values in x.items()}
    return {"x": _array(x).astype("float32")}


def _saved(arrays: Mapping[str, npt.NDArray[Any]], folder: Path) -> str:
    import numpy as np

    path = folder / "data.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]  # the stub takes them for flags
    return str(path)


def _html(found: Mapping[str, Any]) -> str:
    """A summary for a notebook."""
    from codegen.emit import render

    columns = [key for key in TABLE if found["layers"] and key in found["layers"][0]]
    rows = [[layer[key] for key in columns] for layer in found["layers"]]
    return render("report/notebook.html.j2", found=found, columns=columns, rows=rows)
