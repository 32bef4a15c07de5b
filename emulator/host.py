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
CHUNK = 64  # samples between two reports of progress


class HostModel:
    """A host build of one model. Instances share nothing, so samples run on all cores."""

    def __init__(self, library: Path, image: ModelImage) -> None:
        """Loads the library that targets.toolchain.build_host made."""
        self._image = image
        self._library = ctypes.CDLL(str(library))
        self._init = self._function("init", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
        self._input = self._function("input", ctypes.c_void_p, ctypes.c_int)
        self._output = self._function("output", ctypes.c_void_p, ctypes.c_int)
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
            inputs: one int8 array per input, samples along axis 0, device layout.
            progress: called with the number of samples done since the last call.
        """
        count = len(inputs[0])
        flat = tuple(np.ascontiguousarray(x).reshape(count, -1) for x in inputs)
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
        context = ctypes.c_void_p()
        at = ctypes.addressof(context)
        status = self._init(at, arena, self._image.arena_size)
        if status:
            raise ThumbnetError(f"{self._image.name}_init returned {status} on the host")
        stop = min(start + CHUNK, len(inputs[0]))
        for sample in range(start, stop):
            for i, x in enumerate(inputs):
                ctypes.memmove(self._input(at, i), x[sample].ctypes.data, x.shape[1])
            status = self._run(at)
            if status:
                raise ThumbnetError(f"{self._image.name}_run returned {status} on the host")
            for i, y in enumerate(outputs):
                ctypes.memmove(y[sample].ctypes.data, self._output(at, i), y.shape[1])
        return stop - start
