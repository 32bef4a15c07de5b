"""What a run may end with instead of a result: a report that says what happened and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from targets.errors import ThumbnetError


@dataclass(frozen=True, slots=True)
class Report:
    """A fault's facts.

    Attributes:
        reason: what happened, e.g. "write to unmapped memory".
        pc: address of the instruction.
        address: the address accessed, when the fault is about one.
        location: what lies at that address, e.g. "4 bytes past app_arena".
        symbol: name of the function concerned, empty when there is none.
        instruction: in assembly, empty when there is none.
        call_stack: functions that led there, innermost first, as return addresses on the stack tell.
        registers: core registers by name.
        step: step of the model, when it was in one.
        layer: that step's layer.
    """

    reason: str
    pc: int
    address: int | None = None
    location: str = ""
    symbol: str = ""
    instruction: str = ""
    call_stack: tuple[str, ...] = ()
    registers: Mapping[str, int] = field(default_factory=dict)
    step: int | None = None
    layer: str = ""

    @property
    def headline(self) -> str:
        """One sentence."""
        step = "" if self.step is None else f"step {self.step}"
        layer = f"layer '{self.layer}'" if self.layer else ""
        where = ", ".join(part for part in (step, layer) if part)
        at = "" if self.address is None else f" at 0x{self.address:08x}"
        at += f" ({self.location})" if self.location else ""
        code = f"pc 0x{self.pc:08x}" + (f": {self.instruction}" if self.instruction else "")
        place = f"in {self.symbol or 'no known function'} ({code})"
        return f"{where + ': ' if where else ''}{self.reason}{at}, {place}"

    @property
    def details(self) -> str:
        """Calls and registers."""
        calls = f"called by: {' < '.join(self.call_stack)}; " if self.call_stack else ""
        listing = " ".join(f"{name}={value:08x}" for name, value in self.registers.items())
        return f"{calls}registers: {listing}" if listing else calls


class Fault(ThumbnetError):
    """The firmware did what hardware would refuse, or did not come back."""

    def __init__(self, report: Report) -> None:
        """Words the message from the report."""
        self.report = report
        super().__init__(report.headline, hint=report.details)

    @property
    def details(self) -> Mapping[str, object]:
        """The report, for --json."""
        return {"fault": asdict(self.report)}

    def in_step(self, step: int, layer: str = "") -> Fault:
        """The same fault, naming the step of the model that it happened in, and its layer."""
        return Fault(replace(self.report, step=step, layer=layer))
