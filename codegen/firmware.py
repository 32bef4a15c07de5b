"""The files of a firmware with a console: a serial port, a clock, text commands and the framed link."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from targets.console import Console
from targets.link.frames import MAX_PAYLOAD
from targets.link.messages import Hello
from targets.target import Target

Render = Callable[..., str]
HELLO_FILE = "app_hello.h"  # holds the build's id, which all other files go into
SMALL_RAM = 32 * 1024  # bytes; below, frames are short
SMALL_PAYLOAD = 240
BENCHMARK = {
    name: f"{name}01" for name in ("ad", "ic", "kws", "vww")
}  # what its runner calls its models
OTHER_RAM = 3 * 1024  # bytes of the firmware besides arena and inputs: buffers and the least stack
BYTES_PER_ROW = 16
_UARTS = {
    "stm32-v1": "uart_stm32",
    "stm32-v2": "uart_stm32",
    "cmsdk": "uart_cmsdk",
    "nrf": "uart_nrf",
    "pl011": "uart_pl011",
    "lpuart": "uart_lpuart",
}
_FILES = ("main.c", "app.h", "app_clock.c", "app_frames.c", "app_frames.h", "app_link.c")
_MORE_FILES = ("app_run.c", "app_text.c", "app_fault.c")
PLAIN_SOURCES = ("startup.c", "main.c")
CONSOLE_SOURCES = (
    *PLAIN_SOURCES,
    *("app_uart.c", "app_clock.c", "app_frames.c", "app_link.c", "app_run.c"),
    *("app_text.c", "app_fault.c"),
)


@dataclass(frozen=True, slots=True)
class App:
    """What the templates of board/console/ ask for.

    Attributes:
        console: the board's.
        steps: of the model; at least 1, since C has no empty arrays.
        inputs: ports as emit.py describes them.
        outputs: the same.
        runner_name: what text mode calls the model: MLPerf Tiny's runner knows its models by these names.
        consumes_input: whether a run overwrites an input.
        keeps_input: whether text mode keeps a copy of the inputs.
        thousandths: of a real value per step of the first output, in units of 2^-shift.
        shift: see there.
    """

    console: Console
    steps: int
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    runner_name: str
    consumes_input: bool
    keeps_input: bool
    thousandths: int
    shift: int

    @property
    def half(self) -> int:
        """What rounds to the nearest before that shift."""
        return (1 << self.shift) // 2


def describe(
    console: Console,
    target: Target,
    model: str,
    ports: list[dict[str, Any]],
    figures: Mapping[str, int],
    consumes_input: bool,
) -> App:
    """What the templates need of a plan."""
    inputs = tuple(port for port in ports if not port["is_output"])
    outputs = tuple(port for port in ports if port["is_output"])
    size = sum(port["size"] for port in inputs)
    fits = figures["arena"] + size + OTHER_RAM <= target.ram.size
    scale = float(outputs[0]["scale"]) * 1000
    shift = max(s for s in range(17) if s == 0 or scale * 2**s * 255 < 2**31)
    return App(
        console=console,
        steps=max(figures["steps"], 1),
        inputs=inputs,
        outputs=outputs,
        runner_name=BENCHMARK.get(model, model),
        consumes_input=consumes_input,
        keeps_input=consumes_input and fits,
        thousandths=round(scale * 2**shift),
        shift=shift,
    )


def files(render: Render, app: App, context: Mapping[str, Any]) -> dict[str, str]:
    """The files, but for the one that says which build this is."""
    facts = {**context, "app": app}
    found = {
        name: render(f"board/console/{name}.j2", **facts, capacity=capacity(context["target"]))
        for name in (*_FILES, *_MORE_FILES)
    }
    found["app_uart.c"] = render(f"board/console/{_UARTS[app.console.kind]}.c.j2", **facts)
    return found


def hello(
    render: Render, app: App, target: Target, model: str, figures: Mapping[str, int], build: str
) -> str:
    """The file that says which build this is."""
    said = Hello(
        counter="none",
        status=0,
        clock_hz=app.console.clock_hz,
        max_payload=capacity(target),
        steps=figures["steps"],
        arena_size=figures["arena"],
        build_id=build,
        inputs=tuple(port["size"] for port in app.inputs),
        outputs=tuple(port["size"] for port in app.outputs),
        model=model,
        target=target.name,
    )
    return render(f"board/console/{HELLO_FILE}.j2", hello=list(_rows(said.pack())), build_id=build)


def capacity(target: Target) -> int:
    """Bytes of payload that the board's frames take."""
    return MAX_PAYLOAD if target.ram.size >= SMALL_RAM else SMALL_PAYLOAD


def build_id(texts: Mapping[str, str]) -> str:
    """SHA-256 of all files, in hex: what an image is known by."""
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _rows(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), BYTES_PER_ROW):
        yield " ".join(f"{byte}u," for byte in data[start : start + BYTES_PER_ROW])
