"""Files and frames that thumbnet reads besides models: whatever is in them, an error of ours or a value."""

from __future__ import annotations

import contextlib
import io
import json
import math
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen import archives, data, graph_file, recipe
from codegen.ir import Port
from targets import tables, target
from targets.errors import ThumbnetError, UsageError
from targets.link import messages
from targets.link.client import Client, Garbage
from targets.link.frames import Frame, Receiver, encode
from targets.link.messages import ANSWER, Area, Type
from tests.hostile.texts import TEXTS
from thumbnet import compare, project

EXAMPLES = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PORT = (Port("input", "x", (1, 2, 3), (0, 1, 2)),)
TEXT = st.one_of(st.sampled_from([text for text in TEXTS if len(text) < 200]), st.text(max_size=20))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(), TEXT)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
)
DEEP = 100_000


def toml(value: Any) -> str:
    """A value as TOML; None becomes an empty table."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "nan"
    return "{}" if value is None else json.dumps(value)


def only_ours(action: Callable[[], object]) -> None:
    """Runs what may end in an error of ours, in printable words, and in no other."""
    with contextlib.suppress(ThumbnetError):
        action()


def changed(tree: Any, draw: st.DataObject) -> Any:
    """A JSON value with one of its parts replaced or lost."""
    if isinstance(tree, dict) and tree and draw.draw(st.integers(0, 4)):
        key = draw.draw(st.sampled_from(sorted(tree)))
        if not draw.draw(st.integers(0, 5)):
            return {k: v for k, v in tree.items() if k != key}
        return {**tree, key: changed(tree[key], draw)}
    if isinstance(tree, list) and tree and draw.draw(st.integers(0, 4)):
        at = draw.draw(st.integers(0, len(tree) - 1))
        return [*tree[:at], changed(tree[at], draw), *tree[at + 1 :]]
    return draw.draw(JSON)


KEYS = st.sampled_from([*recipe.KEYS, "layer", ""])


@EXAMPLES
@given(
    st.one_of(st.dictionaries(KEYS, JSON, max_size=4), st.just({"layers": {"a": {}}})), st.data()
)
def test_recipes(tmp_path: Path, found: dict[str, Any], draw: st.DataObject) -> None:
    if isinstance(found.get("layers"), dict):
        names = st.sampled_from(recipe.LAYER_KEYS)
        found["layers"] = {"a": draw.draw(st.dictionaries(names, JSON))}
    text = "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in found.items())
    (tmp_path / "r.toml").write_text(text, errors="surrogatepass")
    only_ours(lambda: recipe.load(tmp_path / "r.toml"))


@EXAMPLES
@given(st.binary(max_size=200))
def test_bytes_as_recipe_target_manifest_and_data(tmp_path: Path, content: bytes) -> None:
    for name in ("r.toml", "manifest.json", "x.npz", "x.npy"):
        (tmp_path / name).write_bytes(content)
    only_ours(lambda: recipe.load(tmp_path / "r.toml"))
    only_ours(lambda: target.load(str(tmp_path / "r.toml")))
    only_ours(lambda: project.read_manifest(tmp_path))
    only_ours(lambda: compare.load(tmp_path / "manifest.json"))
    only_ours(lambda: data.load(str(tmp_path / "x.npz"), PORT))
    only_ours(lambda: data.load(str(tmp_path / "x.npy"), PORT))
    only_ours(lambda: graph_file.load(tmp_path / "x.npz"))


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_without_end(opening: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("a = " + opening.replace('"a":', "a = ") * DEEP)
    (tmp_path / "manifest.json").write_text(opening * DEEP)
    for action in (
        lambda: recipe.load(tmp_path / "r.toml"),
        lambda: target.load(str(tmp_path / "r.toml")),
        lambda: project.read_manifest(tmp_path),
        lambda: compare.load(tmp_path / "manifest.json"),
    ):
        with pytest.raises(UsageError):
            action()


def test_files_too_long_for_people(tmp_path: Path) -> None:
    with (tmp_path / "r.toml").open("wb") as file:
        file.truncate(1 << 40)  # a hole
    with pytest.raises(UsageError, match="longer than"):
        recipe.load(tmp_path / "r.toml")
    with pytest.raises(UsageError, match="longer than"):
        target.load(str(tmp_path / "r.toml"))
    with (tmp_path / "manifest.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match="longer than"):
        project.read_manifest(tmp_path)


MANIFEST = {
    "schema_version": 1,
    "model": "net",
    "layers": [{"name": "a"}],
    "inputs": [{"size": 4}],
    "outputs": [{"size": 4}],
    "arena_size": 8,
    "stream_input": None,
    "sources": ["net.c", "kernels.c"],
}


@EXAMPLES
@given(st.data())
def test_manifests(tmp_path: Path, draw: st.DataObject) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(changed(MANIFEST, draw)))

    def read() -> None:
        manifest = project.read_manifest(tmp_path)
        image = project.image(manifest)
        assert all(0 <= size < 1 << 32 for size in (*image.inputs, image.arena_size))
        for name in project.sources(manifest):
            assert (tmp_path / name).parent == tmp_path

    only_ours(read)


@EXAMPLES
@given(st.data())
def test_targets(tmp_path: Path, draw: st.DataObject) -> None:
    path = target.FOLDER / "boards" / f"{draw.draw(st.sampled_from(target.names()))}.toml"
    found = changed(dict(tables.read(path)), draw)
    if isinstance(found, dict):
        text = "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in found.items())
        (tmp_path / "board.toml").write_text(text, errors="replace")
        only_ours(lambda: target.load(str(tmp_path / "board.toml")))


def npy(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def header(text: str) -> bytes:
    """An array's header with this text, and 24 bytes."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(24)


def claims(**entries: object) -> bytes:
    found = {"descr": "<f4", "fortran_order": False, "shape": (1, 2, 3), **entries}
    return header(repr(found))


@pytest.mark.parametrize(
    "content",
    [
        claims(shape=(1 << 40, 1 << 40)),
        claims(shape=(-1, 2)),
        claims(shape=(1 << 70,)),
        claims(shape="x"),
        claims(descr="|O"),
        claims(descr=[("a", "|O")]),
        claims(descr="V2147483647"),
        claims(descr="<f999"),
        claims(evil=1),
        header("{}"),
        header("__import__('os').system('true')"),
        header("(" * 5000),
        header("{" * 60_000),
        b"\x93NUMPY\x03\x00" + bytes(20),
        b"\x93NUMPY",
        b"PK\x03\x04" + bytes(40),
    ],
)
def test_headers_that_lie(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    archive(tmp_path / "x.npz", {"x.npy": content})
    for name in ("x.npy", "x.npz"):
        with pytest.raises(UsageError, match="not a readable"):
            data.load(str(tmp_path / name), PORT)
    with pytest.raises(UsageError, match="not a thumbnet reference"):
        graph_file.load(archive(tmp_path / "g.npz", {"graph.npy": content}))


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "evil",))

    np.save(tmp_path / "x.npy", np.array([Evil()]), allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=np.array([Evil()]))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(UsageError, match="never unpickled"):
            data.load(str(tmp_path / name), PORT)
    assert not (tmp_path / "evil").exists()


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz", {"x.npy": npy(np.zeros(1 << 22, np.float32)), "y.npy": b""})
    assert path.stat().st_size < 1 << 16
    with pytest.raises(archives.Damaged, match="too large"):
        archives.read(path, most=1 << 23)
    assert archives.read.__defaults__ == (archives.MAX_DATA,)


def test_arrays_come_back(tmp_path: Path) -> None:
    wanted = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for array in (wanted, np.asfortranarray(wanted), np.array(3.5), np.zeros((0, 2))):
        path = archive(tmp_path / "x.npz", {"x.npy": npy(array), "note.txt": b"x"})
        np.testing.assert_array_equal(archives.read(path)["x"], array)


@EXAMPLES
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 30))
def test_damaged_archives(tmp_path: Path, noise: bytes, at: int, lost: int) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.ones((2, 2, 3), np.float32), y=np.arange(2))
    content = bytearray(stream.getvalue())
    content[at : at + lost] = noise
    (tmp_path / "x.npz").write_bytes(content)
    only_ours(lambda: data.load(str(tmp_path / "x.npz"), PORT))


@given(st.lists(st.binary(max_size=80), max_size=8))
def test_any_bytes_on_the_line(pieces: list[bytes]) -> None:
    receiver = Receiver()
    for piece in pieces:
        for found in receiver.take(piece):
            assert type(found).__name__ in ("Frame", "Damaged")
    assert list(receiver.take(b"\0" + encode(Frame(1, 2))))[-1] == Frame(1, 2)


@given(st.binary(max_size=120))
def test_any_payload(payload: bytes) -> None:
    for one in (payload, bytes([messages.PROTOCOL]) + payload):
        hello = messages.unpack_hello(one)
        assert hello is None or len(hello.build_id) == 64
    messages.unpack_ran(payload)
    messages.unpack_fault(payload)


class Liar:
    """A port whose board answers every request with a payload of its own choice."""

    baudrate = 1_000_000_000

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._waiting = b""

    def write(self, data: bytes) -> None:
        for asked in Receiver().take(data):
            assert isinstance(asked, Frame)
            self._waiting += encode(Frame(asked.type | ANSWER, asked.sequence, self._payload))

    def read(self, size: int) -> bytes:
        found, self._waiting = self._waiting[:size], self._waiting[size:]
        return found

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("payload", [b"", b"\0", bytes(17), bytes(200), b"\xff" * 64])
def test_a_board_that_answers_anything(payload: bytes) -> None:
    """No traceback, and no endless asking."""
    client = Client(Liar(payload))
    with pytest.raises(Garbage):
        client.read(Area.OUTPUT, 0, 16)
    with pytest.raises(Garbage):
        client.run(0, 1)
    with pytest.raises(Garbage):
        client.hello()
    assert client.request(Type.ECHO) == payload
