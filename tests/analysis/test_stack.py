"""The bound on the stack: what the compiler says of its functions, what is measured, what has no bound."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from emulator.stack_bound import StackBound, Unbounded, bound
from tests.analysis import matrix
from tests.analysis.conftest import Require
from tests.golden.network import planned

CORES = {"generic-m4": "cortex-m4", "generic-m0plus": "cortex-m0plus"}
FLAGS = (
    *("-mthumb", "-std=c99", "-O2", "-ffreestanding", "-fbuiltin", "-fomit-frame-pointer"),
    "-ffunction-sections",
)
LINK = ("-nostdlib", "-Wl,--entry=0")
MOST = 512  # bytes that a kernel may take


def built(gcc: str, core: str, folder: Path, sources: list[str]) -> Path:
    core_flag = f"-mcpu={core}"
    subprocess.run(
        (gcc, core_flag, *FLAGS, "-fstack-usage", "-c", *sources), cwd=folder, check=True
    )
    objects = [f"{Path(source).stem}.o" for source in sources]
    place = "-Tlink.ld" if (folder / "link.ld").exists() else "-Wl,-Ttext=0x8000000"
    link = (gcc, core_flag, "-mthumb", *LINK, place, *objects, "-lgcc", "-o", "all.elf")
    subprocess.run(link, cwd=folder, check=True)
    return folder / "all.elf"


def frames(folder: Path) -> dict[str, int]:
    """Function -> bytes of its own, as gcc's -fstack-usage says."""
    found = {}
    for report in folder.glob("*.su"):
        for line in report.read_text().splitlines():
            place, size, kind = line.split("\t")
            assert kind == "static", line
            found[place.rpartition(":")[2]] = int(size)
    return found


@pytest.mark.parametrize("target", CORES)
def test_frames_are_what_the_compiler_says(target: str, require: Require, tmp_path: Path) -> None:
    project = matrix.project(planned(target), target)
    folder = matrix.write(tmp_path / "all", project)
    sources = [*project.sources, *project.firmware]
    elf = built(require("arm-none-eabi-gcc"), CORES[target], folder, sources)
    told = frames(folder)
    assert {"golden_run", "golden_run_step"} <= set(told)
    for name, size in told.items():
        found = bound(elf, [name])
        if found.path:  # not inlined into its callers
            assert found.path[0][1] <= size <= found.bytes
            assert len(found.path) > 1 or found.bytes == size
    assert 0 < bound(elf, ["golden_run"]).bytes <= MOST


def image(gcc: str, folder: Path, text: str, core: str = "cortex-m4") -> Path:
    (folder / "x.c").write_text(text)
    return built(gcc, core, folder, ["x.c"])


def test_a_path_adds_up(require: Require, tmp_path: Path) -> None:
    """push {r4, lr} and 24 bytes, then a tail call with nothing of its own, then 40 bytes."""
    elf = image(
        require("arm-none-eabi-gcc"),
        tmp_path,
        """
__attribute__((naked)) void inner(void) { __asm__("sub sp, #40\\n add sp, #40\\n bx lr"); }
__attribute__((naked)) void middle(void) { __asm__("push {r5}\\n pop {r5}\\n b inner"); }
__attribute__((naked)) void outer(void) {
    __asm__("push {r4, lr}\\n sub sp, #24\\n bl middle\\n bl 1f\\n add sp, #24\\n pop {r4, pc}\\n"
            "1: str r0, [sp, #-8]!\\n ldr r0, [sp], #8\\n cmp r0, #0\\n it eq\\n bxeq lr\\n"
            "sub sp, #4\\n add sp, #4\\n bx lr");
}
""",
    )
    assert bound(elf, ["outer"]) == StackBound(72, (("outer", 32), ("middle", 0), ("inner", 40)))
    assert bound(elf, ["absent"]) == StackBound(0)


def test_switches_by_table(require: Require, tmp_path: Path) -> None:
    """Every case is followed, though only a table leads there."""
    cases = "".join(f"    case {i}: use({i}); a *= {i + 3}; break;\n" for i in range(12))
    text = f"""
void use(int x);
void deep(void);
__attribute__((naked)) void use(int x) {{ __asm__("bx lr"); (void)x; }}
__attribute__((naked)) void deep(void) {{ __asm__("sub sp, #200\\n add sp, #200\\n bx lr"); }}
int choose(int i, int a) {{
    switch (i) {{
{cases}    case 12: deep(); break;
    }}
    return a;
}}
"""
    for core in ("cortex-m4", "cortex-m0plus"):
        found = bound(image(require("arm-none-eabi-gcc"), tmp_path, text, core), ["choose"])
        assert found.path[-1] == ("deep", 200)


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("int f(int n) { return n < 2 ? n : f(n - 1) + f(n - 2); }", "calls itself"),
        ("int f(int (*g)(int)) { return g(1) + 1; }", "through a pointer"),
        ("int f(int n) { volatile char x[n]; x[n - 1] = 1; return x[0]; }", "from elsewhere"),
    ],
)
def test_what_has_no_bound_is_refused(
    code: str, what: str, require: Require, tmp_path: Path
) -> None:
    elf = image(require("arm-none-eabi-gcc"), tmp_path, f"__attribute__((noinline)) {code}")
    with pytest.raises(Unbounded, match=what):
        bound(elf, ["f"])
