"""How numbers of a few bits lie in bytes, and what stored weights cost in flash."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from codegen.ir import Array, IntArray, Storage

ByteArray = npt.NDArray[np.uint8]


def row_bytes(count: int, bits: int) -> int:
    """Bytes of a row of so many numbers; where numbers cross bytes, one more, so that two can be read."""
    return -(-count * bits // 8) + (8 % bits != 0)


def pack(rows: Array, bits: int) -> ByteArray:
    """Rows of numbers below 2**bits as bytes: the first number in the lowest bits, each row on a byte.

    Args:
        rows: (rows, count), unsigned.
        bits: 1 to 8.

    Returns:
        (rows, row_bytes(count, bits)).
    """
    numbers = rows.astype(np.int64)
    if numbers.size and (numbers.min() < 0 or numbers.max() >> bits):
        raise ValueError(f"a number does not fit {bits} bits")
    digits = (numbers[:, :, None] >> np.arange(bits)) & 1
    stream = digits.reshape(len(rows), -1).astype(np.uint8)
    packed = np.packbits(stream, axis=1, bitorder="little")
    missing = row_bytes(rows.shape[1], bits) - packed.shape[1]
    return np.pad(packed, ((0, 0), (0, missing)))


def unpack(packed: ByteArray, bits: int, count: int) -> IntArray:
    """What `pack` packed: (rows, count)."""
    stream = np.unpackbits(packed, axis=1, bitorder="little")[:, : count * bits]
    digits = stream.reshape(len(packed), count, bits).astype(np.int64)
    numbers: IntArray = (digits << np.arange(bits)).sum(axis=2)
    return numbers


def bits_per_weight(storage: Storage) -> float:
    """Bits of flash per weight in portable packing: codes, factors, tables, a 32-bit scale per channel."""
    rows, length = storage.codes.shape
    total: int = rows * row_bytes(length, storage.bits)
    total += sum(rows * row_bytes(f.values.shape[1], f.bits) for f in storage.factors)
    total += 0 if storage.offset is not None else storage.levels.size
    return float(8 * (total + 4 * rows) / (rows * length))
