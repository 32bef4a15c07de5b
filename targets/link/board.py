"""A board on a wire as a Machine: it infers, and times its layers itself."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from targets.errors import DeviceError
from targets.link import ports
from targets.link.client import SILENCE_S, Client, Counts
from targets.link.messages import Area, Hello
from targets.link.ports import Port
from targets.machine import Inference, ModelImage
from targets.wiring import DEFAULT_BAUD

BAUDS = (115_200, 921_600, 460_800, 230_400, 57_600, 9_600)
PROBE_S = 0.5  # for each of them


@dataclass(frozen=True, slots=True)
class DeviceInference(Inference):
    """What a board measures. `steps` is empty: it counts no instructions.

    Attributes:
        cycles: of all layers.
        layer_cycles: of each.
    """

    cycles: int = 0
    layer_cycles: tuple[int, ...] = ()


class WrongBuild(DeviceError):
    """The board runs another firmware than the one asked for (exit code 5)."""


class Board:
    """A firmware at a port. Enter it to connect."""

    def __init__(
        self,
        url: str,
        image: ModelImage,
        build_id: str,
        *,
        baud: int = DEFAULT_BAUD,
        step_s: float = 0.0,
        port: Port | None = None,
    ) -> None:
        """Opens nothing yet.

        Args:
            url: a device, or any URL of pyserial.
            image: what the host knows of the model.
            build_id: of the firmware that is expected there.
            baud: bits per second.
            step_s: how long one layer may take.
            port: an open port to use instead of opening the URL, which is a mere name then.
        """
        self.url = url
        self.baud = baud
        self._image = image
        self._build_id = build_id
        self._silence_s = SILENCE_S + step_s
        self._port = port
        self._client: Client | None = None
        self._counts = Counts()
        self._hello: Hello | None = None

    def __enter__(self) -> Self:
        """Connects.

        Raises:
            DeviceError: nothing answers, or another firmware does.
        """
        self._client = Client(self._port or ports.open_port(self.url, self.baud))
        self._counts = self._client.counts
        try:
            self._hello = self._client.hello()
            self._check(self._hello)
        except BaseException:
            self._client.close()
            self._client = None
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Disconnects."""
        if self._client:
            self._client.close()
        self._client = None

    @property
    def client(self) -> Client:
        """The link; only while connected."""
        if self._client is None:
            raise DeviceError("not connected")
        return self._client

    @property
    def counts(self) -> Counts:
        """What happened on the line since the board was last connected."""
        return self._counts

    @property
    def greeted(self) -> bool:
        """Whether it has ever answered."""
        return self._hello is not None

    @property
    def hello(self) -> Hello:
        """What the board said of itself; only once connected."""
        if self._hello is None:
            raise DeviceError("not connected")
        return self._hello

    def infer(self, inputs: tuple[bytes, ...]) -> DeviceInference:
        """Runs one inference on raw input bytes, in the model's order of inputs."""
        client, image = self.client, self._image
        self._load(inputs)
        ran = client.run(0, image.steps, self._silence_s)
        if ran.status:
            raise DeviceError(f"{image.name}_run returned {ran.status} on the board")
        outputs = tuple(
            client.read(Area.OUTPUT, i, size) for i, size in enumerate(image.outputs) if size
        )
        cycles = client.read(Area.CYCLES, 0, 4 * image.steps)
        return DeviceInference(
            outputs=outputs,
            steps=(),
            stack=ran.stack,
            arena_high_water=0,
            cycles=ran.cycles,
            layer_cycles=struct.unpack(f"<{image.steps}I", cycles),
        )

    def trace(self, inputs: tuple[bytes, ...]) -> Iterator[bytes]:
        """The whole arena after each step of an inference, to find where it goes wrong."""
        self._load(inputs)
        for step in range(self._image.steps):
            self.client.run(step, step + 1, self._silence_s)
            yield self.client.read(Area.ARENA, 0, self._image.arena_size)

    def _load(self, inputs: tuple[bytes, ...]) -> None:
        for i, data in enumerate(inputs):
            self.client.write_input(i, data)

    def _check(self, hello: Hello) -> None:
        if hello.build_id != self._build_id:
            raise WrongBuild(
                f"the board at {self.url} runs another build: {hello.model} for {hello.target}, "
                f"{hello.build_id[:12]}; this project is {self._build_id[:12]}",
                hint="build and flash this project, then check it",
            )
        if hello.status:
            raise DeviceError(f"{hello.model}_init returned {hello.status} on the board")


def answering_baud(url: str, but: int) -> int | None:
    """The first of the usual baud rates, but one, at which a firmware answers; None where none does."""
    for baud in BAUDS:
        if baud == but or "://" in url:
            continue
        client = Client(ports.open_port(url, baud))
        try:
            client.hello(PROBE_S)
        except DeviceError:
            continue
        else:
            return baud
        finally:
            client.close()
    return None
