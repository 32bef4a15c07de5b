"""Several models in one firmware: linked, built, emulated in turn, refused where they clash."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen import graph_file, reference
from emulator.fault import Fault
from emulator.model import EmulatedApp
from targets import toolchain
from targets.errors import UsageError
from thumbnet import compiler, linked, linking, project, report, verify
from thumbnet.options import CompileOptions, RunOptions

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
TARGETS = ("generic-m4", "generic-m0plus")
BRIEF = RunOptions(max_samples=3, accuracy="none")


def example(name: str) -> str:
    return str(EXAMPLES / name / f"{name}.npz")


def generate(folder: Path, model: str, **options: Any) -> Path:
    chosen = CompileOptions(data=example(model), **options)
    compiled = compiler.compile_model(EXAMPLES / model / f"{model}.onnx", chosen)
    project.write(folder, compiled.files)
    return folder


@pytest.fixture(scope="module", params=TARGETS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits, motions and the two linked as app."""
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("digits", "motions"):
        generate(folder / name, name, target=request.param)
    linking.link_projects((folder / "digits", folder / "motions"), folder / "app")
    return folder


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits, and digits compiled for small flash as `small`: some of their kernels are equal."""
    folder = tmp_path_factory.mktemp("twins")
    generate(folder / "digits", "digits")
    generate(folder / "small", "digits", name="small", optimize="flash")
    linking.link_projects((folder / "digits", folder / "small"), folder / "app")
    return folder


@pytest.fixture
def copy(twins: Path, tmp_path: Path) -> Path:
    """The twins, to be tampered with."""
    shutil.copytree(twins, tmp_path / "twins", ignore=shutil.ignore_patterns("build"))
    return tmp_path / "twins"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "thumbnet", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_two_models_run_in_turn_in_one_arena(both: Path) -> None:
    data = tuple(f"{name}={example(name)}" for name in ("digits", "motions"))
    found = linked.check(both / "app", RunOptions(max_samples=3), data)
    arenas = [project.read_manifest(both / name)["arena_size"] for name in ("digits", "motions")]
    assert [model["model"] for model in found["models"]] == ["digits", "motions"]
    assert found["sram"]["arena"] == max(arenas)
    assert found["sram"]["saved"] == min(arenas)
    assert found["samples"] == 6
    assert found["host"]["samples"] > 600
    assert found["mismatched_bytes"] == found["host"]["mismatched_bytes"] == 0
    for model in found["models"]:
        assert (model["samples"], model["checked_samples"]) == (3, 1)
        assert model["mismatched_bytes"] == 0
        assert model["accuracy"]["device"] > 0.97
        assert 0 < model["sram"]["arena_high_water"] <= model["arena_size"]


def test_each_model_costs_what_it_costs_alone(both: Path) -> None:
    found = linked.check(both / "app", BRIEF)
    for model in found["models"]:
        alone = verify.verify(both / model["model"], BRIEF)
        assert model["instructions"] == alone["instructions"]
        assert model["sram"]["stack"] == alone["sram"]["stack"]


def test_the_arena_is_the_only_one_and_bound_to_every_model(both: Path) -> None:
    elf = verify.build(both / "app").elf
    manifest = project.read_any(both / "app")
    listed = subprocess.run(
        ["arm-none-eabi-nm", "-S", elf], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("no arm-none-eabi-nm")
    sizes = {
        line.split()[-1]: int(line.split()[1], 16)
        for line in listed.stdout.splitlines()
        if len(line.split()) == 4
    }
    large = [
        name
        for name, size in sizes.items()
        if size >= manifest["arena_size"] and name.startswith("app_")
    ]
    assert large == ["app_arena"] and sizes["app_arena"] == manifest["arena_size"]


def test_samples_alternate(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    kept = EmulatedApp.infer

    def noted(self: Any, model: int, inputs: tuple[bytes, ...]) -> Any:
        order.append("dm"[model])
        return kept(self, model, inputs)

    monkeypatch.setattr(EmulatedApp, "infer", noted)
    linked.check(both / "app", BRIEF)
    assert "".join(order) == "dmdmdm"
    assert all(a != b for a, b in pairwise(order))


def test_equal_kernels_are_in_the_image_once(twins: Path) -> None:
    found = linked.check(twins / "app", BRIEF)
    kernels, flash = found["kernels"], found["flash"]
    assert found["mismatched_bytes"] == 0
    assert 0 < len(kernels["shared"]) == kernels["separate_functions"] - kernels["functions"]
    separate = [verify.build(twins / name).sizes.code for name in ("digits", "small")]
    assert flash["saved_code"] == flash["shared_code"] > 0
    assert abs(sum(separate) - flash["code"] - flash["saved_code"]) <= 8 * kernels["functions"]
    functions = {layer["function"] for model in found["models"] for layer in model["layers"]}
    assert {one["function"] for one in kernels["shared"]} < functions
    text = (twins / "app/kernels.h").read_text()
    assert functions == set(re.findall(r"void (\w+)\(", text))


def test_linking_twice_gives_the_same_bytes(twins: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    linking.link_projects((twins / "digits", twins / "small"), again)
    for path in again.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (twins / "app" / path.relative_to(again)).read_bytes()


def test_three_models_and_a_project_that_is_replaced(both: Path, tmp_path: Path) -> None:
    target = project.read_any(both / "app")["target"]
    third = generate(tmp_path / "third", "motions", target=target, name="third")
    output = tmp_path / "all"
    linking.link_projects((third, both / "digits"), output)
    linking.link_projects((third, both / "digits", both / "motions"), output)
    found = linked.check(output, RunOptions(max_samples=1, accuracy="none"))
    assert [model["mismatched_bytes"] for model in found["models"]] == [0, 0, 0]
    assert len(found["kernels"]["shared"]) == len(found["models"][0]["layers"])


def test_a_wrong_weight_shows_in_its_model_alone(copy: Path) -> None:
    source = copy / "app/small.c"
    head, array, rest = source.read_text().partition("static const int8_t step")
    first, *rows = rest.split("\n")
    rows[:5] = [re.sub(r"-?\d+", "77", row) for row in rows[:5]]
    source.write_text(head + array + "\n".join([first, *rows]))
    found = linked.check(copy / "app", BRIEF)
    good, bad = found["models"]
    assert good["mismatched_bytes"] == 0 < bad["mismatched_bytes"] == found["mismatched_bytes"]
    assert bad["first_divergence"]["layer"] in {layer["name"] for layer in bad["layers"]}


def test_a_model_that_touches_another_s_context_is_stopped(copy: Path) -> None:
    source = copy / "app/small.c"
    text = source.read_text().replace(
        '#include "kernels.h"', '#include "kernels.h"\n#include "app.h"'
    )
    call = "int8_t *const arena = ctx->arena;"
    source.write_text(text.replace(call, f"{call}\n    app_ctx_digits.arena = arena;"))
    with pytest.raises(Fault, match="app_ctx_digits"):
        linked.check(copy / "app", BRIEF)


def test_the_header_tells_what_a_run_destroys_and_is_cpp(both: Path, tmp_path: Path) -> None:
    header = both / "app/app.h"
    assert "destroys the inputs and outputs of all others" in header.read_text()
    compiled = tmp_path / "app.cpp"
    compiled.write_text('#include "app.h"\nint main() { return app_init(); }\n')
    command = (
        *toolchain.host_compiler(),
        "-x",
        "c++",
        "-fsyntax-only",
        "-I",
        str(header.parent),
        str(compiled),
    )
    subprocess.run(command, check=True)


def test_on_the_host_they_take_turns_in_an_arena_that_nobody_clears(
    both: Path, tmp_path: Path
) -> None:
    strict = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror")
    manifest = project.read_any(both / "app")
    library = tmp_path / "libapp.so"
    toolchain.build_host(both / "app", project.sources(manifest, "host_sources"), library, strict)
    app = ctypes.CDLL(str(library))
    assert app.app_init() == 0
    generator = np.random.default_rng(1)
    for _ in range(4):
        for model in manifest["models"]:
            name, (port,), (result,) = model["model"], model["inputs"], model["outputs"]
            graph = graph_file.load(both / "app" / linking.reference_file(name))
            x = generator.integers(-128, 128, port["shape"]).astype(np.int8)
            context = ctypes.addressof(ctypes.c_void_p.in_dll(app, f"app_ctx_{name}"))
            for function in ("input", "output"):
                getattr(app, f"{name}_{function}").restype = ctypes.c_void_p
            ctypes.memmove(
                getattr(app, f"{name}_input")(ctypes.c_void_p(context), 0), x.tobytes(), x.size
            )
            assert getattr(app, f"{name}_run")(ctypes.c_void_p(context)) == 0
            found = getattr(app, f"{name}_output")(ctypes.c_void_p(context), 0)
            (expected,) = reference.run(graph, (x,))
            assert ctypes.string_at(found, result["size"]) == expected.tobytes()


Tamper = Callable[[Path], None]


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / project.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def sign(folder: Path, name: str) -> None:
    """Makes the manifest agree with a file that was changed."""
    digests = project.read_manifest(folder)["files"]
    digests[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    edit_manifest(folder, files=digests)


def changed_source(folder: Path) -> None:
    (folder / "small.c").write_text("int small;\n")


def lead_out(folder: Path) -> None:
    outside = folder.parent.parent / "outside.c"
    shutil.move(folder / "small.c", outside)
    (folder / "small.c").symlink_to(outside)


def damaged_kernels(folder: Path) -> None:
    (folder / "kernels.c").write_text('#include "kernels.h"\n\nvoid small_x(void)\n{\n')
    sign(folder, "kernels.c")


def foreign_bytes(folder: Path) -> None:
    (folder / "small.c").write_bytes(b"\xff\x00")
    sign(folder, "small.c")


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (changed_source, "small.c was changed since it was generated"),
        (lead_out, "no file small.c of its own"),
        (damaged_kernels, "not as thumbnet writes them"),
        (foreign_bytes, "small.c is no text of ours"),
        (lambda f: (f / "kernels.h").unlink(), "no file kernels.h"),
        (lambda f: (f / "reference.npz").write_bytes(b"PK"), "reference.npz"),
        (lambda f: edit_manifest(f, model="../small"), "is no model's name"),
        (lambda f: edit_manifest(f, model=7), "damaged (model)"),
        (lambda f: edit_manifest(f, target=None), "damaged (target)"),
        (lambda f: edit_manifest(f, target="/tmp/board.toml"), "damaged (target)"),
        (lambda f: edit_manifest(f, sources=["../../etc/x.c"]), "sources is damaged"),
        (lambda f: edit_manifest(f, sources="small.c"), "sources is damaged"),
        (lambda f: edit_manifest(f, host_sources=["other.c"]), "damaged"),
        (lambda f: edit_manifest(f, files=None), "was changed"),
        (lambda f: edit_manifest(f, arena_size=16), "its arena is not that of the header"),
        (lambda f: edit_manifest(f, layers=[{}]), "memory map"),
        (lambda f: edit_manifest(f, flash={"weights": "x", "constants": 1}), "sizes"),
        (lambda f: edit_manifest(f, inputs=3), "damaged"),
        (lambda f: edit_manifest(f, schema_version=9), "another version"),
        (lambda f: edit_manifest(f, models=[]), "several models"),
    ],
)
def test_damaged_and_hostile_projects_are_refused(copy: Path, tamper: Tamper, message: str) -> None:
    tamper(copy / "small")
    before = (copy / "app" / project.MANIFEST).read_bytes()
    with pytest.raises(UsageError) as caught:
        linking.link_projects((copy / "digits", copy / "small"), copy / "app")
    assert message in caught.value.message and caught.value.hint
    assert str(copy / "small") in caught.value.message
    assert (copy / "app" / project.MANIFEST).read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"models": "ab"},
        {"models": [{"model": "../x"}]},
        {"models": []},
        {"kernels": {"shared": [{}]}},
        {"sram": {}},
        {"sources": ["../x.c"]},
    ],
)
def test_a_damaged_linked_project_is_refused(copy: Path, changes: dict[str, object]) -> None:
    edit_manifest(copy / "app", **changes)
    with pytest.raises(UsageError):
        linked.check(copy / "app", BRIEF)


def test_cores_must_be_the_same_and_the_board_is_chosen(copy: Path, tmp_path: Path) -> None:
    other = generate(tmp_path / "m3", "motions", target="generic-m3")
    board = generate(tmp_path / "board", "motions", target="mps2-an386")
    folders = (copy / "digits", board)
    with pytest.raises(
        UsageError, match="different cores: digits for generic-m4, motions for generic-m3"
    ):
        linking.link_projects((copy / "digits", other), tmp_path / "app")
    with pytest.raises(UsageError, match="different boards"):
        linking.link_projects(folders, tmp_path / "app")
    with pytest.raises(UsageError, match="has a cortex-m3"):
        linking.link_projects(folders, tmp_path / "app", "generic-m3")
    assert not (tmp_path / "app").exists()
    found = linking.link_projects(folders, tmp_path / "app", "mps2-an386")
    assert found["target"] == "mps2-an386"
    assert linked.check(tmp_path / "app", BRIEF)["mismatched_bytes"] == 0


def test_what_is_no_request_is_refused(copy: Path, tmp_path: Path) -> None:
    one, two = copy / "digits", copy / "small"
    for folders, output, message in (
        ((one,), tmp_path / "app", "one project"),
        ((one, one), tmp_path / "app", "two models are called 'digits'"),
        ((one, two), one, "which is to be linked"),
        ((one, two), copy, "which is to be linked"),
        ((one, copy / "none"), tmp_path / "app", "no thumbnet project"),
        ((one, copy / "app"), tmp_path / "app", "several models"),
    ):
        with pytest.raises(UsageError, match=message):
            linking.link_projects(folders, output)
    with pytest.raises(UsageError, match="several models"):
        report.make(copy / "app", BRIEF)


def test_data_names_its_model(twins: Path) -> None:
    for data, message in (
        ((example("digits"),), "names no model"),
        (("large=x.npz",), "names no model"),
        (("small=a.npz", "small=b.npz"), "twice"),
    ):
        with pytest.raises(UsageError, match=message):
            linked.check(twins / "app", BRIEF, data)
    with pytest.raises(UsageError, match="speedscope"):
        linked.check(twins / "app", RunOptions(speedscope=Path("x.json")))


def test_the_command_line(twins: Path, tmp_path: Path) -> None:
    app = tmp_path / "app"
    done = run("link", twins / "digits", twins / "small", "-o", app)
    assert done.returncode == 0, done.stderr
    assert "shared by several models" in done.stdout
    done = run("build", app, "--format", "elf,hex")
    assert done.returncode == 0, done.stderr
    assert (app / "build/app.hex").is_file()
    done = run("emulate", app, "--data", f"digits={example('digits')}", "--max-samples", 2)
    assert done.returncode == 0, done.stderr
    assert "0 mismatched bytes in 4 samples on the emulated core and 597 on the host" in done.stdout
    found = json.loads(run("emulate", app, "--max-samples", 1, "--json").stdout)
    assert [model["model"] for model in found["models"]] == ["digits", "small"]
    assert "conv2d.gemm" in run("emulate", app, "--max-samples", 1, "--by", "kernels").stdout
    table = run("emulate", app, "--max-samples", 1, "--format", "csv").stdout.splitlines()
    assert table[0].startswith("model,samples,mismatched") and len(table) == 3
    done = run("link", app, app, "-o", tmp_path / "b", "--json")
    assert done.returncode == 2 and json.loads(done.stdout)["error"]["hint"]
    done = run("emulate", twins / "digits", "--data", "a", "--data", "b")
    assert done.returncode == 2 and "--data is given twice" in done.stderr


@pytest.mark.usefixtures("qemu")
def test_qemu_runs_them_too(tmp_path: Path) -> None:
    folders = tuple(
        generate(tmp_path / name, name, target="mps2-an386") for name in ("digits", "motions")
    )
    linking.link_projects(folders, tmp_path / "app")
    options = RunOptions(max_samples=2, accuracy="none", engine="qemu", profile=False)
    found = linked.check(tmp_path / "app", options)
    assert (found["engine"], found["samples"], found["mismatched_bytes"]) == ("qemu", 4, 0)


@pytest.mark.sweep
@pytest.mark.parametrize("target", TARGETS)
def test_kws_and_vww_share_a_firmware(target: str, data_dir: Path, tmp_path: Path) -> None:
    sets = {name: str(data_dir / "datasets" / f"{name}01.npz") for name in ("kws", "vww")}
    for name, data in sets.items():
        options = CompileOptions(target=target, data=data)
        compiled = compiler.compile_model(data_dir / "models" / f"{name}.onnx", options)
        project.write(tmp_path / name, compiled.files)
    manifest = linking.link_projects((tmp_path / "kws", tmp_path / "vww"), tmp_path / "app")
    arenas = [model["arena_size"] for model in manifest["models"]]
    data_files = tuple(f"{name}={data}" for name, data in sets.items())
    found = linked.check(tmp_path / "app", RunOptions(accuracy="none"), data_files)
    assert (found["samples"], found["mismatched_bytes"]) == (40, 0)
    assert found["sram"]["arena"] == max(arenas) < sum(arenas)
