"""Peripherals behind addresses: words, with a device's functions behind some of them."""

from __future__ import annotations

from typing import Protocol

from unicorn import Uc


class Device(Protocol):
    """Registers at offsets from a base. Every access is to a whole word."""

    def peek(self, offset: int) -> int:
        """What a read gives, without its effects."""

    def read(self, offset: int) -> int:
        """Reads a register."""

    def write(self, offset: int, value: int) -> None:
        """Writes a register."""


class Bus:
    """Peripheral address space. Words that belong to no device keep what is written to them."""

    def __init__(self, uc: Uc) -> None:
        """Maps nothing yet."""
        self._uc = uc
        self._words: dict[int, int] = {}
        self._devices: dict[int, tuple[Device, int]] = {}

    def map(self, base: int, size: int) -> None:
        """Makes addresses accessible."""
        self._uc.mmio_map(base, size, self._on_read, base, self._on_write, base)

    def attach(self, base: int, size: int, device: Device) -> None:
        """Puts a device at a base address."""
        for offset in range(0, size, 4):
            self._devices[base + offset] = (device, offset)

    def word(self, address: int) -> int:
        """The stored word at an address that belongs to no device."""
        return self._words.get(address, 0)

    def peek(self, address: int) -> int:
        """The word at an address, without the effects of reading it."""
        device = self._devices.get(address)
        return device[0].peek(device[1]) if device else self.word(address)

    def store(self, address: int, value: int) -> None:
        """Sets the stored word at an address that belongs to no device."""
        self._words[address] = value

    def _on_read(self, uc: Uc, offset: int, size: int, base: int) -> int:
        address = base + offset
        device = self._devices.get(address & ~3)
        word = device[0].read(device[1]) if device else self.word(address & ~3)
        return word >> 8 * (address & 3) & _mask(size)

    def _on_write(self, uc: Uc, offset: int, size: int, value: int, base: int) -> None:
        address = base + offset
        device = self._devices.get(address & ~3)
        if size < 4:
            old = self.peek(address & ~3)
            shift = 8 * (address & 3)
            value = old & ~(_mask(size) << shift) | (value & _mask(size)) << shift
        value &= 0xFFFF_FFFF
        if device:
            device[0].write(device[1], value)
        else:
            self.store(address & ~3, value)


def _mask(size: int) -> int:
    return (1 << 8 * size) - 1
