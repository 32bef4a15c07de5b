"""The generated C on the desktop: a shared library of the same sources, run over whole data sets."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from targets.errors import ThumbnetError
from targets.machine import ModelImage

Int8Array = npt.NDArray[np.int8]
CONTEXT = 2  # words that hold the C structure
CHUNK = 64  # samples between two reports of progress


class HostModel:
    """A host build of one model. Instances share nothing, so samples run on all cores."""

    def __init__(self, library: Path, image: ModelImage) -> None:
        """Loads the library that targets.toolchain.build_host made."""
        self._image = image
        self._library = ctypes.CDLL(str(library))
        self._init = self._function("init", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
        self._output = self._function("output", ctypes.c_void_p, ctypes.c_int)
        if image.row:
            self._begin = self._function("begin", ctypes.c_int)
            self._push_row = self._function("push_row", ctypes.c_int, ctypes.c_void_p)
            self._finish = self._function("finish", ctypes.c_int)
        else:
            self._input = self._function("input", ctypes.c_void_p, ctypes.c_int)
            self._run = self._function("run", ctypes.c_int)

    def _function(self, name: str, result: type, *arguments: type) -> Callable[..., int]:
        function = getattr(self._library, f"{self._image.name}_{name}")
        function.restype = result
        function.argtypes = [ctypes.c_void_p, *arguments]
        found: Callable[..., int] = function
        return found

    def run(
        self, inputs: tuple[Int8Array, ...], progress: Callable[[int], None] = lambda done: None
    ) -> tuple[Int8Array, ...]:
        """Outputs, one (samples, bytes) array each.

        Args:
            inputs: one array per input, samples along axis 0, device layout: int8, or of the input's type;
                a model without inputs has one sample.
            progress: called with the number of samples done since the last call.
        """
        count = len(inputs[0]) if inputs else 1
        flat = tuple(np.ascontiguousarray(x).reshape(count, -1).view(np.int8) for x in inputs)
        outputs = tuple(np.empty((count, size), np.int8) for size in self._image.outputs)
        starts = range(0, count, CHUNK)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            jobs = [pool.submit(self._run_chunk, flat, outputs, start) for start in starts]
            for job in jobs:
                progress(job.result())
        return outputs

    def _run_chunk(
        self, inputs: tuple[Int8Array, ...], outputs: tuple[Int8Array, ...], start: int
    ) -> int:
        align = 16
        memory = ctypes.create_string_buffer(self._image.arena_size + align)
        arena = -(-ctypes.addressof(memory) // align) * align
        context = (ctypes.c_void_p * CONTEXT)()
        at = ctypes.addressof(context)
        status = self._init(at, arena, self._image.arena_size)
        if status:
            raise ThumbnetError(f"{self._image.name}_init returned {status} on the host")
        stop = min(start + CHUNK, len(inputs[0]) if inputs else 1)
        for sample in range(start, stop):
            status = self._infer(at, tuple(x[sample] for x in inputs))
            if status:
                raise ThumbnetError(f"{self._image.name}: status {status} on the host")
            for i, y in enumerate(outputs):
                ctypes.memmove(y[sample].ctypes.data, self._output(at, i), y.shape[1])
        return stop - start

    def _infer(self, at: int, inputs: tuple[Int8Array, ...]) -> int:
        """One inference in a context; its status."""
        if self._image.row:
            return self._push(at, inputs[0])
        for i, x in enumerate(inputs):
            ctypes.memmove(self._input(at, i), x.ctypes.data, x.size)
        return self._run(at)

    def _push(self, at: int, x: Int8Array) -> int:
        """The same with the input's rows pushed, each from a buffer that is overwritten afterwards."""
        row = ctypes.create_string_buffer(self._image.row)
        status = self._begin(at)
        wanted = x.size // self._image.row
        for start in range(0, x.size, self._image.row):
            ctypes.memmove(row, x[start:].ctypes.data, self._image.row)
            answer = self._push_row(at, ctypes.addressof(row))
            wanted -= 1
            status = status or (answer if answer != wanted else 0)
        return status or self._finish(at)
