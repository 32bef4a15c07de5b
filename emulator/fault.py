"""What a run may end with instead of a result."""

from __future__ import annotations

from collections.abc import Mapping

from targets.errors import ThumbnetError


class Fault(ThumbnetError):
    """The firmware did what hardware would refuse, or did not come back.

    Args:
        reason: what happened, e.g. "write to unmapped memory".
        address: the address accessed, when the fault is about one.
        pc: address of the instruction.
        symbol: name of the function concerned, empty when there is none.
        registers: core registers by name.
        step: step of the model, when it was in one.
    """

    def __init__(
        self,
        reason: str,
        *,
        address: int | None = None,
        pc: int,
        symbol: str,
        registers: Mapping[str, int],
        step: int | None = None,
    ) -> None:
        """Words the message from the parts."""
        self.reason = reason
        self.address = address
        self.pc = pc
        self.symbol = symbol
        self.registers = dict(registers)
        self.step = step
        where = "" if step is None else f"step {step}: "
        what = reason if address is None else f"{reason} at 0x{address:08x}"
        listing = " ".join(f"{name}={value:08x}" for name, value in registers.items())
        super().__init__(
            f"{where}{what}, in {symbol or 'no known function'} (pc 0x{pc:08x})",
            hint=f"registers: {listing}" if listing else "",
        )

    def in_step(self, step: int) -> Fault:
        """The same fault, naming the step of the model that it happened in."""
        return Fault(
            self.reason,
            address=self.address,
            pc=self.pc,
            symbol=self.symbol,
            registers=self.registers,
            step=step,
        )
