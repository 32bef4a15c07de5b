"""The memory of an emulated board: exactly the target's regions, and what is loaded into them."""

from __future__ import annotations

from unicorn import UC_PROT_ALL, UC_PROT_EXEC, UC_PROT_READ, Uc

from emulator.elf import Image
from targets.errors import DoesNotFit
from targets.target import Region, Target

POISON = 0xA5  # RAM before anything is written: stale reads show, and so does the stack's extent
RED_ZONE = 64  # bytes above static data that a watched run may not access: they show overruns
GATE = 0x9FFF_F000  # calls return to here; a page of the emulator's own
SYSTEM_CONTROL = 0xE000_E000  # on every core; words here, so that start-up code can run
CPACR = 0xE000_ED88
PAGE = 0x1000


def map_memory(uc: Uc, target: Target) -> None:
    """Maps the target's regions, and what calls by the host need. All else faults."""
    map_regions(uc, target)
    uc.mem_map(GATE, PAGE, UC_PROT_EXEC)


def map_regions(uc: Uc, target: Target) -> None:
    """Maps the target's regions only."""
    for region in target.regions:
        if region.kind == "flash":
            uc.mem_map(region.base, region.size, UC_PROT_READ | UC_PROT_EXEC)
            uc.mem_write(region.base, b"\xff" * region.size)
        else:
            uc.mem_map(region.base, region.size, UC_PROT_ALL)
            uc.mem_write(region.base, bytes((POISON,)) * region.size)


def map_alias(uc: Uc, target: Target, base: int, of: int) -> None:
    """Makes a loaded flash bank readable and executable at a second address."""
    for region in target.regions:
        if region.kind == "flash" and region.base == of:
            uc.mem_map(base, region.size, UC_PROT_READ | UC_PROT_EXEC)
            uc.mem_write(base, bytes(uc.mem_read(of, region.size)))


def load(uc: Uc, target: Target, image: Image) -> None:
    """Writes what a flasher would write: load addresses, not run addresses."""
    check_fits(target, image)
    for segment in image.segments:
        if segment.data:
            uc.mem_write(segment.load_address, segment.data)


def check_fits(target: Target, image: Image) -> None:
    """Refuses an image that loads anything outside the target's flash."""
    for segment in image.segments:
        if not segment.data:
            continue
        start, end = segment.load_address, segment.load_address + len(segment.data)
        if not any(r.kind == "flash" and r.base <= start and end <= r.end for r in target.regions):
            raise DoesNotFit(
                f"the image loads 0x{start:08x}..0x{end:08x}, outside the flash of {target.name}"
            )


def stack_limit(region: Region, image: Image) -> int:
    """The lowest address that the stack may grow down to: the end of all static data below it."""
    ends = (s.address + s.size for s in image.segments if region.base <= s.address < region.end)
    return max(ends, default=region.base)
