"""Several models in one firmware: linked, built, emulated in turn, refused where they clash."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen import graph_file, reference
from emulator.fault import Fault
from emulator.model import EmulatedApp
from targets import toolchain
from tests.thumbnet.linking.projects import BRIEF, TARGETS, example, generate
from tests.thumbnet.test_cli import thumbnet
from thumbnet import compiler, linked, linking, project, verify
from thumbnet.options import CompileOptions, RunOptions


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


def test_the_command_line(twins: Path, tmp_path: Path) -> None:
    app = tmp_path / "app"
    done = thumbnet("link", twins / "digits", twins / "small", "-o", app)
    assert done.returncode == 0, done.stderr
    assert "shared by several models" in done.stdout
    done = thumbnet("build", app, "--format", "elf,hex")
    assert done.returncode == 0, done.stderr
    assert (app / "build/app.hex").is_file()
    done = thumbnet("emulate", app, "--data", f"digits={example('digits')}", "--max-samples", 2)
    assert done.returncode == 0, done.stderr
    assert "0 mismatched bytes in 4 samples on the emulated core and 597 on the host" in done.stdout
    found = json.loads(thumbnet("emulate", app, "--max-samples", 1, "--json").stdout)
    assert [model["model"] for model in found["models"]] == ["digits", "small"]
    assert "conv2d.gemm" in thumbnet("emulate", app, "--max-samples", 1, "--by", "kernels").stdout
    table = thumbnet("emulate", app, "--max-samples", 1, "--format", "csv").stdout.splitlines()
    assert table[0].startswith("model,samples,mismatched") and len(table) == 3
    done = thumbnet("link", app, app, "-o", tmp_path / "b", "--json")
    assert done.returncode == 2 and json.loads(done.stdout)["error"]["hint"]
    done = thumbnet("emulate", twins / "digits", "--data", "a", "--data", "b")
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
