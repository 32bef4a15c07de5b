"""Plan -> files: the only module that imports jinja2."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2
import numpy as np

from codegen import __version__, emit_chain, firmware
from codegen.arrange import ALIGNMENT, Slot
from codegen.functions import Function
from codegen.ir import ITEM_BYTES, Port, macs, per_tensor
from codegen.kernel import Constant
from codegen.names import comment, identifier
from codegen.plain import PLAIN_TYPES, c_number, ctype
from codegen.plan import Plan, Step
from targets import console as consoles
from targets.console import Console
from targets.target import Core, Target

NUMBERS_PER_ROW = 16
NUMPY_NAMES = {"float": "float32"}


@dataclass(frozen=True, slots=True)
class Model:
    """How the C code names a model, and the bytes of a row where its input is pushed row by row, else 0."""

    name: str
    macro: str
    sha256: str
    core: str
    sources: tuple[str, ...]
    host_sources: tuple[str, ...]
    firmware: tuple[str, ...]
    row: int = 0


@dataclass(frozen=True, slots=True)
class Project:
    """A C project as text.

    Attributes:
        files: content by name.
        sources: what a firmware compiles of the model.
        host_sources: what a host build compiles: twins in C stand in for kernels in assembly.
        firmware: what a firmware compiles besides the model.
        build_id: what an image is known by, in hex: the hash of all files.
    """

    files: Mapping[str, str]
    sources: tuple[str, ...]
    host_sources: tuple[str, ...]
    firmware: tuple[str, ...]
    build_id: str


def _is_markup(template: str | None) -> bool:
    return template is not None and template.endswith((".svg.j2", ".html.j2", ".pdsc.j2"))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("templates", package_path=""),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # C, where text from models passes codegen.names; HTML and XML escape by themselves.
        autoescape=_is_markup,
    )
    environment.globals["version"] = __version__
    return environment


def render(template: str, **context: object) -> str:
    """One template as text."""
    return _environment().get_template(template).render(**context)


def emit(plan: Plan, target: Target, sha256: str) -> Project:
    """The C project of a plan. Same plan, same bytes.

    Args:
        plan: a checked plan.
        target: the board or generic part that the firmware files are for.
        sha256: digest of the ONNX file.
    """
    name = plan.graph.name
    in_c = [f for f in plan.functions if f.kernel.assembly is None]
    tuned = [f for f in plan.functions if f.kernel.assembly is not None]
    assembly = f"kernels_{identifier(plan.core.name)}.S"
    # The console's commands fill inputs that lie in the arena whole.
    console = consoles.of(target) if plan.source is None and plan.graph.inputs else None
    model = Model(
        name=name,
        macro=name.upper(),
        sha256=sha256,
        core=plan.core.name,
        sources=(f"{name}.c", "kernels.c", *([assembly] if tuned else [])),
        host_sources=(f"{name}.c", "kernels.c", *(["kernels_host.c"] if tuned else [])),
        firmware=firmware.CONSOLE_SOURCES if console else firmware.PLAIN_SOURCES,
        row=0 if plan.source is None else plan.source.row_bytes,
    )
    ports = list(_ports(plan))
    network = _network(plan, model, ports)
    kernels = _kernels_in_c(model, plan.core, in_c)
    board = {"model": model, "target": target, "console": console, "floats": has_floats(kernels)}
    files = {
        f"{name}.h": render("model.h.j2", **network),
        f"{name}.c": render("model.c.j2", **network),
        "kernels.h": render("kernels.h.j2", model=model, functions=plan.functions),
        "kernels.c": kernels,
        "main.c": render("board/main.c.j2", **board),
        "startup.c": render("board/startup.c.j2", **board),
        "link.ld": render("board/link.ld.j2", **board),
        "Makefile": render("board/Makefile.j2", **board),
        "CMakeLists.txt": render("board/CMakeLists.txt.j2", **board),
    }
    if tuned:
        files[assembly] = _kernels_in_assembly(model, tuned)
        files["kernels_host.c"] = _kernels_in_c(model, plan.core, tuned)
    app = _app(plan, target, console, ports) if console else None
    files |= firmware.files(render, app, board) if app else {}
    build = firmware.build_id(files)
    if app:
        files[firmware.HELLO_FILE] = firmware.hello(render, app, target, name, figures(plan), build)
    return Project(files, model.sources, model.host_sources, model.firmware, build)


def _network(plan: Plan, model: Model, ports: list[dict[str, Any]]) -> dict[str, Any]:
    """What the templates of the model's own files are told."""
    steps = [_step(plan, step) for step in plan.steps]
    drivers = "".join(str(step["driver"]) for step in steps if step["driver"] is not None)
    return {
        "model": model,
        "chain_tools": render("chain.tools.c.j2", **emit_chain.tools(drivers)) if drivers else None,
        "figures": figures(plan),
        "ports": ports,
        "slots": [_slot_row(slot) for slot in _unique_slots(plan)],
        "steps": steps,
        "consumed": _consumed(plan),
        "weights_crc": _weights_crc(plan),
        "has_constants": any(step.instance.constants for step in plan.steps),
        "stream": _stream(plan),
        "states": _states(plan, ports),
    }


def _app(plan: Plan, target: Target, console: Console, ports: list[dict[str, Any]]) -> firmware.App:
    consumes = any(plan.input_is_consumed(port.tensor) for port in plan.graph.inputs)
    return firmware.describe(console, target, plan.graph.name, ports, figures(plan), consumes)


def _dense(text: str) -> str:
    """Without the empty lines that macros leave."""
    return "\n".join(line for line in text.splitlines() if line.strip())


def _kernels_in_assembly(model: Model, functions: list[Function]) -> str:
    bodies = [
        _dense(render(str(f.kernel.assembly), f=f, order=f.order, **f.instance.params))
        for f in functions
    ]
    pairs = list(zip(functions, bodies, strict=True))
    return render("kernels.S.j2", model=model, functions=pairs)


def _kernels_in_c(model: Model, core: Core, functions: list[Function]) -> str:
    """A C file with these kernels and the helpers that they use."""
    bodies = [render(f.kernel.template, f=f, order=f.order, **f.instance.params) for f in functions]
    functions_used = math_functions("".join(bodies))
    text = "".join((*functions_used, *bodies))
    exact = "requantize_float(" in text
    return render(
        "kernels.c.j2",
        model=model,
        core=core,
        bodies=[body.rstrip("\n") for body in bodies],
        plain_types=[(n, t) for n, t in PLAIN_TYPES.items() if re.search(rf"\b{n}\b", text)],
        math=functions_used,
        uses_high_word="high_word(" in text,
        uses_requantize_float=exact,
        uses_requantize_limbs="requantize_limbs(" in text,
        uses_mended_sum="mended_sum(" in text,
        uses_patched_sum="patched_sum(" in text,
        uses_load_bits="load_bits(" in text,
        uses_store_bits="store_bits(" in text,
        uses_count_bits="count_bits(" in text,
        uses_saturate=exact or "saturate(" in text,
        uses_saturate_wide="saturate_wide(" in text,
    )


def has_floats(text: str) -> bool:
    """Whether C computes in float32."""
    return re.search(r"\bfloat\b", text) is not None


def math_functions(text: str) -> list[str]:
    """The functions of single numbers that C text calls, and those that they call; callees first.

    Each is a file of templates/math/ with the function's name. codegen/real_math.py and codegen/gates.py
    compute the same.
    """
    found: dict[str, str] = {}

    def collect(caller: str) -> None:
        for name in sorted(set(re.findall(r"\b((?:gate|real)_[a-z0-9_]+)\(", caller))):
            if name in found:
                continue
            body = render(f"math/{name}.c.j2").rstrip("\n")
            found[name] = ""  # no function calls itself, not even through another
            collect(body.partition("\n{")[2])
            del found[name]
            found[name] = body

    collect(text)
    return list(found.values())


def figures(plan: Plan) -> dict[str, int]:
    """The numbers of a plan that comments and macros show."""
    return {
        "weights": sum(step.weight_bytes for step in plan.steps),
        "constants": sum(step.constant_bytes for step in plan.steps),
        "arena": max(plan.size, ALIGNMENT),
        "bound": plan.bound,
        "alignment": ALIGNMENT,
        "macs": macs(plan.graph),
        "steps": len(plan.steps),
    }


def _ports(plan: Plan) -> Iterator[dict[str, Any]]:
    for is_output, ports in ((False, plan.graph.inputs), (True, plan.graph.outputs)):
        for index, port in enumerate(ports):
            yield _port(plan, port, index, is_output, alone=len(ports) == 1)


def _port(plan: Plan, port: Port, index: int, is_output: bool, alone: bool) -> dict[str, Any]:
    tensor = plan.graph.tensors[port.tensor]
    quant = tensor.quant or per_tensor(1.0, 0)
    direction = "output" if is_output else "input"
    suffix = "" if alone else f"_{index}"
    moved = port.perm != tuple(range(len(port.perm)))
    shape = ", ".join(map(str, port.shape))
    return {
        "is_output": is_output,
        "index": index,
        "macro": f"{plan.graph.name.upper()}_{direction.upper()}{suffix}",
        "variable": f"{direction}{suffix}",
        "comment": f"{direction.capitalize()} {index}, {comment(port.name)}",
        "shape": tensor.shape,
        "size": tensor.bytes,
        "scale": f"{quant.scale:.9e}",
        "zero_point": quant.zero_point,
        "ctype": ctype(tensor),
        "type": tensor.dtype,
        "width": ITEM_BYTES[tensor.dtype or "int8"],
        "offset": plan.slots[port.tensor].offset if port.tensor in plan.slots else None,
        "note": f"\n * Channels last; [{shape}] in the ONNX model." if moved else "",
    }


def _stream(plan: Plan) -> dict[str, object] | None:
    """The rows that are pushed into step 0; None where inputs lie in the arena."""
    source = plan.source
    if source is None:
        return None
    return {"function": "step0", "rows": source.rows, "row": source.row_bytes}


def _states(plan: Plan, ports: list[dict[str, Any]]) -> list[dict[str, object]]:
    """What a run copies for the next one, and what a state holds at the beginning."""
    first_output = len(plan.graph.inputs)
    return [
        {
            "to": ports[index]["offset"],
            "from": ports[first_output + output]["offset"],
            "size": ports[index]["size"],
            "zero": ports[index]["zero_point"],
            "text": comment(plan.graph.inputs[index].name),
        }
        for output, index in plan.graph.states
    ]


def _consumed(plan: Plan) -> str:
    consumed = [p for p in plan.graph.inputs if plan.input_is_consumed(p.tensor)]
    return "\n * A run overwrites its input: write it anew before the next run." if consumed else ""


def _unique_slots(plan: Plan) -> list[Slot]:
    slots = {slot.name: slot for slot in plan.slots.values()}
    scratch = [step.scratch for step in plan.steps if step.scratch is not None]
    return sorted((*slots.values(), *scratch), key=lambda s: (s.first, s.offset, s.name))


def _slot_row(slot: Slot) -> Mapping[str, object]:
    return {
        "offset": slot.offset,
        "size": slot.size,
        "live": f"{slot.first}..{slot.last}",
        "text": comment(slot.name),
    }


def _step(plan: Plan, step: Step) -> dict[str, object]:
    constants = [
        {
            "ctype": c.ctype,
            "symbol": f"step{step.index}_{c.name}",
            "count": max(int(c.data.size), 1),
            "rows": list(_rows(c)),
        }
        for c in step.instance.constants
    ]
    driver = None
    if step.chain is not None:
        driver = render("chain.c.j2", **emit_chain.params(plan, step, step.chain))
    arguments = [f"arena + {slot.offset}" for slot in step.inputs]
    arguments += [f"step{step.index}_{c.name}" for c in step.instance.constants]
    if step.scratch is not None:
        arguments.append(f"arena + {step.scratch.offset}")
    arguments.append(f"arena + {step.output.offset}")
    source = plan.source if step.index == 0 else None
    rows = [] if source is None else [f"{source.rows}x{source.columns}x{source.depth} in rows"]
    shapes = " + ".join([*rows, *("x".join(map(str, t.shape[1:])) for t in step.layer.activations)])
    result = "x".join(map(str, step.layer.output.shape[1:]))
    return {
        "index": step.index,
        "summary": f"{step.kernel.name} {shapes} -> {result}",
        "sources": ", ".join(comment(s) for s in step.layer.node.sources) or "the compiler",
        "function": plan.functions[step.function].name
        if driver is None
        else f"step{step.index}_run",
        "arguments": arguments if driver is None else ["arena"],
        "driver": driver,
        "constants": constants,
    }


def _weights_crc(plan: Plan) -> int:
    """CRC-32 of all constants as they lie in flash, one behind the other."""
    crc = 0
    for step in plan.steps:
        for constant in step.instance.constants:
            kind = np.dtype(NUMPY_NAMES.get(constant.ctype, constant.ctype.removesuffix("_t")))
            values = constant.data.ravel() if constant.data.size else np.zeros(1)
            crc = zlib.crc32(values.astype(kind.newbyteorder("<")).tobytes(), crc)
    return crc


def _rows(constant: Constant) -> Iterator[str]:
    values = constant.data.ravel().tolist() or [0]
    words = [c_number(value, constant.ctype) for value in values]
    for start in range(0, len(words), NUMBERS_PER_ROW):
        yield ", ".join(words[start : start + NUMBERS_PER_ROW]) + ","
