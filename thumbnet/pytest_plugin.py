"""A pytest plugin for users' tests: the fixture `mcu_board` runs a project's firmware and answers inputs.

pytest --board-project DIR                       on the emulated board
pytest --board-project DIR --board-port URL      on hardware, or on anything else that speaks the link
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from codegen.ir import Graph
    from targets.link.board import Board, DeviceInference
    from thumbnet.verify import Int8Array


@dataclass(frozen=True, slots=True)
class McuBoard:
    """A board that answers.

    Attributes:
        name: of the target.
        manifest: of the project.
        graph: what the firmware must compute.
        board: the link to it.
    """

    name: str
    manifest: dict[str, Any]
    graph: Graph
    board: Board

    def infer(self, *inputs: Int8Array) -> tuple[Int8Array, ...]:
        """One inference on the device's own integers.

        Args:
            inputs: int8, of the shapes in the manifest, with or without the batch of one.

        Returns:
            int8 outputs with a batch of one.
        """
        import numpy as np

        outputs = self.measure(*inputs).outputs
        shapes = (port["shape"] for port in self.manifest["outputs"])
        pairs = zip(outputs, shapes, strict=True)
        return tuple(np.frombuffer(data, np.int8).reshape(shape) for data, shape in pairs)

    def measure(self, *inputs: Int8Array) -> DeviceInference:
        """One inference with the device's cycles per layer and its stack; outputs as bytes."""
        import numpy as np

        return self.board.infer(tuple(np.asarray(x, np.int8).tobytes() for x in inputs))

    def reference(self, *inputs: Int8Array) -> tuple[Int8Array, ...]:
        """What infer() must return, byte for byte."""
        import numpy as np

        from codegen import reference

        shapes = (port["shape"] for port in self.manifest["inputs"])
        pairs = zip(inputs, shapes, strict=True)
        batch = tuple(np.asarray(x, np.int8).reshape(shape) for x, shape in pairs)
        return reference.run(self.graph, batch)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options."""
    group = parser.getgroup("thumbnet")
    group.addoption("--board-project", metavar="DIR", help="Project for the fixture mcu_board.")
    group.addoption("--board-port", metavar="URL", help="Board's port. [default: the emulator]")
    group.addoption("--board-baud", type=int, metavar="N", help="Bits per second of that port.")
    parser.addini("board_project", "Project for the fixture mcu_board.", default="")


@pytest.fixture(scope="session")
def mcu_board(request: pytest.FixtureRequest) -> Iterator[McuBoard]:
    """The project's firmware, connected: in the emulator, or on the board at --board-port."""
    from codegen import graph_file
    from emulator.firmware import Firmware
    from emulator.firmware_port import FirmwarePort
    from targets import console
    from targets import load as load_target
    from targets.errors import ThumbnetError
    from targets.link.board import Board
    from thumbnet import project, verify

    config = request.config
    chosen = config.getoption("--board-project") or config.getini("board_project")
    if not chosen:
        pytest.fail("mcu_board needs --board-project DIR, or board_project in pytest's settings")
    folder, url = Path(chosen), config.getoption("--board-port")
    firmware = None
    try:
        manifest = project.read_manifest(folder)
        target = load_target(manifest["target"])
        described = console.of(target)
        if described is None:
            pytest.fail(f"firmware for {target.name} has no console")
        baud = config.getoption("--board-baud") or described.baud
        if not url:
            firmware = Firmware(target, verify.build(folder).elf)
        port = FirmwarePort(firmware, baud) if firmware else None
        image, build = project.image(manifest), manifest["build_id"]
        with Board(url or "the emulator", image, build, baud=baud, port=port) as board:
            graph = graph_file.load(folder / project.REFERENCE)
            yield McuBoard(target.name, manifest, graph, board)
    except ThumbnetError as error:
        pytest.fail(f"{error.message}\n{error.hint}")
    finally:
        if firmware:
            firmware.close()
