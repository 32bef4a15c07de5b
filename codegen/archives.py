"""Arrays from .npy and .npz files of unknown origin: nothing is unpickled, and no size is believed.

The header of an array says how much memory it wants; that much must be in the file, and an archive must say
how large its members are before any is unpacked. What is beyond the limit is never allocated.
"""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from codegen.ir import Array

MAX_DATA = 2 << 30  # bytes of all arrays of a file, unpacked
MAX_HEADER = 10_000  # characters


class Damaged(ValueError):
    """A file that holds no arrays, or not what it says."""


def read(path: Path, most: int = MAX_DATA) -> dict[str, Array]:
    """The arrays of an .npz file by name; that of an .npy file under the name "".

    Raises:
        Damaged: no such file, or one that is damaged, too large, or holds Python objects.
        OSError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                file.seek(0)
                return {"": _array(file, min(path.stat().st_size, most))}
        with zipfile.ZipFile(path) as archive:
            return _members(archive, most)
    except (OSError, Damaged):
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds on damaged files
        raise Damaged(f"{type(error).__name__}: {error}") from error


def _members(archive: zipfile.ZipFile, most: int) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename:
            continue
        if name in found:
            raise Damaged(f"two arrays are called {name!r}")
        most -= member.file_size
        if most < 0:
            raise Damaged("its arrays are too large")
        with archive.open(member) as file:
            found[name] = _array(file, member.file_size)
    return found


def _array(file: IO[bytes], size: int) -> Array:
    """The array that a stream of so many bytes holds."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise Damaged(f"version {version} of the format")
    header = np.lib.format.read_array_header_1_0
    if version == (2, 0):
        header = np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = header(file, max_header_size=MAX_HEADER)
    if dtype.hasobject:
        raise Damaged("it holds Python objects, which are never unpickled")
    count = prod(int(extent) for extent in shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize > size:
        raise Damaged(f"an array of shape {shape} in {size} bytes")
    data = bytearray(count * dtype.itemsize)
    filled = 0
    while filled < len(data):
        part = file.read(min(len(data) - filled, 1 << 20))
        if not part:
            raise Damaged("it ends too early")
        data[filled : filled + len(part)] = part
        filled += len(part)
    array = np.frombuffer(data, dtype, count)
    return array.reshape(shape, order="F" if by_columns else "C")
