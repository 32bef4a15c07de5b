"""The command line as a user meets it: results, exit codes, files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent.parent
DIGITS = ROOT / "examples/digits/digits.onnx"
DATA = ROOT / "examples/digits/digits.npz"


def thumbnet(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "thumbnet", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", **environment},
    )


def result(*arguments: object, **environment: str) -> dict[str, Any]:
    done = thumbnet(*arguments, "--json", **environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def failure(code: int, *arguments: object, **environment: str) -> str:
    done = thumbnet(*arguments, **environment)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "digits"
    result("generate", DIGITS, "-o", folder, "--data", DATA)
    return folder


def test_streamed_input_gives_the_same_accuracy(tmp_path: Path) -> None:
    options = ("--data", DATA, "--max-samples", 2, "--optimize", "sram")
    found = result("run", DIGITS, *options, "--stream-input", "-o", tmp_path / "streamed")
    assert found["stream_input"]["rows"] == 8
    assert found["mismatched_bytes"] == found["host"]["mismatched_bytes"] == 0
    assert found["checked_samples"] == 1
    assert found["accuracy"] == result("run", DIGITS, *options)["accuracy"]
    text = thumbnet("emulate", tmp_path / "streamed", "--max-samples", 1).stdout
    assert "8 rows of 8 B are pushed; 3 are kept" in text


def test_run_proves_every_byte_and_keeps_accuracy() -> None:
    found = result("run", DIGITS, "--data", DATA)
    assert found["mismatched_bytes"] == 0
    assert found["matches_reference"] is True
    assert found["samples"] == 20
    assert found["host"] == {"samples": 597, "mismatched_bytes": 0}
    assert found["accuracy"]["metric"] == "top1"
    assert found["accuracy"]["device"] >= 0.98
    assert abs(found["accuracy"]["device"] - found["accuracy"]["float"]) <= 0.007
    layers = sum(layer["instructions"] for layer in found["layers"])
    assert found["instructions"] == pytest.approx(layers, rel=1e-3)  # medians do not add up
    timing = found["timing"]
    assert (timing["model"], timing["error"]) == ("cortex-m4", None)  # of no board that exists
    assert timing["cycles"] == pytest.approx(sum(timing["breakdown"].values()), abs=3)
    assert found["latency_ms"] == timing["latency_ms"]
    assert timing["latency_ms"] == pytest.approx(
        timing["cycles"] / found["clock_hz"] * 1e3, rel=1e-4
    )
    assert found["checked_samples"] == 1
    sram = found["sram"]
    assert sram["total"] == sram["arena"] + sram["scratch"] + sram["stack"]
    assert sram["arena"] == sram["arena_bound"]
    assert sram["arena_high_water"] <= sram["total_static"]
    flash = found["flash"]
    assert flash["total"] == flash["code"] + flash["weights"] + flash["constants"]
    assert not any(layer["op"] == "transpose" for layer in found["layers"])


def test_generate_build_emulate(project: Path) -> None:
    built = result("build", project)
    assert Path(built["elf"]).is_file()
    found = result("emulate", project, "--data", DATA, "--max-samples", 3, "--accuracy", "none")
    assert found["mismatched_bytes"] == 0
    assert found["samples"] == 3
    assert found["accuracy"] is None


def test_emulate_without_data_uses_random_inputs(project: Path) -> None:
    found = result("emulate", project, "--max-samples", 2)
    assert (found["samples"], found["mismatched_bytes"]) == (2, 0)


def test_generate_is_reproducible(tmp_path: Path) -> None:
    trees = []
    for seed in ("0", "1", "random"):
        folder = tmp_path / seed / "digits"
        done = thumbnet("generate", DIGITS, "-o", folder, "--data", DATA, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
        trees.append({p.name: p.read_bytes() for p in sorted(folder.iterdir())})
    assert trees[0] == trees[1] == trees[2]
    assert not any(str(tmp_path).encode() in content for content in trees[0].values())


def test_a_recipe_is_written_and_taken_back(project: Path, tmp_path: Path) -> None:
    recipe = (project / "recipe.toml").read_text()
    slow = recipe.replace('kernel = "conv2d.gemm"', 'kernel = "conv2d.direct"')
    assert slow != recipe
    (tmp_path / "slow.toml").write_text(slow)
    changed = tmp_path / "digits"
    options = ("--data", DATA, "--recipe", tmp_path / "slow.toml")
    found = result("generate", DIGITS, "-o", changed, *options)
    kernels = {layer["kernel"] for layer in found["layers"]}
    assert "conv2d.direct" in kernels
    assert "conv2d.window" not in kernels


def test_wrong_recipes_say_what_is_wrong(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    for text, says in (
        ("calibraton = 'mse'", "calibration"),
        ("calibration = 'best'", "minmax"),
        ("[layers.nowhere]\nkernel = 'conv2d.direct'", "no layer"),
        ("[layers.'/head/Gemm']\nkernel = 'conv2d.direct'", "dense.portable"),
        ("not toml", "TOML"),
    ):
        recipe.write_text(text)
        options = ("--data", DATA, "--recipe", recipe)
        assert says in failure(2, "generate", DIGITS, "-o", tmp_path / "out", *options)


def test_a_changed_weight_is_caught(project: Path, tmp_path: Path) -> None:
    broken = tmp_path / "digits"
    shutil.copytree(project, broken, ignore=shutil.ignore_patterns("build"))
    model = broken / "digits.c"
    constants = model.read_text()
    first = re.search(r"step0_weights\[\d+\] = \{\n +(-?\d+),", constants)
    assert first is not None
    changed = str(int(first.group(1)) // 2 - 20)
    start, end = first.span(1)
    model.write_text(constants[:start] + changed + constants[end:])
    done = thumbnet("emulate", broken, "--data", DATA, "--max-samples", 2)
    assert done.returncode == 4
    assert "mismatched bytes" in done.stdout
    assert "first diverging layer: /stem/conv/Conv" in done.stdout


@pytest.mark.parametrize(
    ("code", "says", "arguments"),
    [
        (2, "did you mean 'generic-m4'", ["run", DIGITS, "--calib", "random", "-t", "generic-m44"]),
        (2, "does not exist", ["run", DIGITS, "--data", "nowhere.npz"]),
        (2, "--calib", ["run", DIGITS]),
        (2, "No such option", ["run", DIGITS, "--tarlget", "x"]),
        (2, "unknown metric", ["run", DIGITS, "--data", DATA, "--metric", "top"]),
        (2, "--shape", ["inspect", DIGITS, "--shape", "input"]),
        (2, "no thumbnet project", ["build", ROOT / "docs"]),
        (2, "cannot be read", ["inspect", "nowhere.onnx"]),
        (3, "too many", ["run", DIGITS, "--calib", "random", "--sram", "1K"]),
        (3, "too many", ["run", DIGITS, "--calib", "random", "--flash", "2K"]),
        (3, "too many", ["run", DIGITS, "--calib", "random", "--cycles", "1K"]),
    ],
    ids=str,
)
def test_errors_are_clean(code: int, says: str, arguments: list[object]) -> None:
    assert says in failure(code, *arguments)


def test_errors_as_json() -> None:
    done = thumbnet("run", DIGITS, "--calib", "random", "-t", "nothing", "--json")
    error = json.loads(done.stdout)["error"]
    assert done.returncode == error["code"] == 2
    assert "nothing" in error["message"]


def test_an_unsupported_operator_is_named(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    node = helper.make_node("Det", ["x"], ["y"], name="strange")
    graph = helper.make_graph(
        [node],
        "g",
        [info("x", TensorProto.FLOAT, [1, 4])],
        [info("y", TensorProto.FLOAT, [1, 4])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    text = failure(1, "inspect", tmp_path / "m.onnx")
    assert "strange" in text
    assert "Det" in text
    assert "Conv" in text


def test_a_missing_compiler_is_exit_code_6(project: Path) -> None:
    assert "arm-none-eabi-gcc" in failure(
        6, "build", project, "--toolchain", "gcc", PATH="/nowhere"
    )


@pytest.mark.usefixtures("qemu")
def test_qemu_is_a_second_engine() -> None:
    options = ("-t", "mps2-an386", "--accuracy", "none", "--max-samples", 2)
    there = result("run", DIGITS, "--data", DATA, *options)
    here = result("run", DIGITS, "--data", DATA, *options, "--engine", "qemu")
    assert (there["engine"], here["engine"]) == ("unicorn", "qemu")
    assert here["matches_reference"] is True
    assert here["instructions"] == there["instructions"]
    assert here["sram"] == there["sram"]
    shown = thumbnet("run", DIGITS, "--data", DATA, *options, "--engine", "qemu").stdout
    assert "in QEMU" in shown


@pytest.mark.usefixtures("qemu")
def test_a_core_that_qemu_alone_has() -> None:
    options = ("-t", "mps3-an547", "--accuracy", "none", "--max-samples", 2)
    text = failure(2, "run", DIGITS, "--data", DATA, *options)
    assert "Unicorn has no cortex-m55" in text
    assert "--engine qemu" in text
    found = result("run", DIGITS, "--data", DATA, *options, "--engine", "qemu")
    assert found["matches_reference"] is True


@pytest.mark.usefixtures("qemu")
def test_a_target_that_qemu_lacks(project: Path) -> None:
    text = failure(2, "emulate", project, "--max-samples", 1, "--engine", "qemu")
    assert "no machine with the memory of generic-m4" in text
    assert "mps2-an386" in text


def test_missing_qemu_is_exit_code_6() -> None:
    options = ("-t", "mps2-an386", "--toolchain", "zig", "--engine", "qemu")
    text = failure(6, "run", DIGITS, "--data", DATA, *options, PATH="/nowhere")
    assert "qemu-system-arm is not on PATH" in text
    assert "hint: install it" in text


def test_a_foreign_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    failure(2, "generate", DIGITS, "-o", tmp_path, "--data", DATA)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_failed_generate_leaves_nothing(tmp_path: Path) -> None:
    failure(3, "generate", DIGITS, "-o", tmp_path / "out", "--data", DATA, "--sram", "1K")
    assert list(tmp_path.iterdir()) == []


def test_inspect_boards_ops_doctor() -> None:
    inspected = result("inspect", DIGITS)
    assert inspected["macs"] == 125_568
    assert all(board["fits"] for board in inspected["boards"])
    boards = {board["name"] for board in result("boards")["boards"]}
    assert {"generic-m0plus", "generic-m4", "generic-m33", "mps2-an386", "microbit"} <= boards
    operators = result("ops")
    assert {"Conv", "Gemm", "Softmax"} <= set(operators["onnx"])
    assert not {"If", "Loop", "DynamicQuantizeLinear"} & set(operators["onnx"])
    found = result("doctor")
    assert found["ok"] is True
    assert bool(found["optional"]["qemu-system-arm"]) == bool(shutil.which("qemu-system-arm"))
    for verb in (["inspect", DIGITS], ["boards", "microbit"], ["ops"], ["doctor"]):
        assert thumbnet(*verb).returncode == 0


def test_what_fits_no_board_is_still_inspected(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    weights = numpy_helper.from_array(np.ones((8, 3, 1, 1), np.float32), "w")
    graph = helper.make_graph(
        [node],
        "g",
        [info("x", TensorProto.FLOAT, [1, 3, 300, 300])],
        [info("y", TensorProto.FLOAT, [1, 8, 300, 300])],
        [weights],
    )
    onnx.save(helper.make_model(graph, ir_version=8), tmp_path / "m.onnx")
    fits = {b["target"]: b["fits"] for b in result("inspect", tmp_path / "m.onnx")["boards"]}
    assert not fits["generic-m4"]
    assert fits["mps2-an386"]
    options = ("--calib", "random", "-o", tmp_path / "out")
    assert "RAM of generic-m4" in failure(3, "generate", tmp_path / "m.onnx", *options)


def test_help_is_quick() -> None:
    started = os.times()
    assert thumbnet("--help").returncode == 0
    ended = os.times()
    used = ended.children_user - started.children_user
    used += ended.children_system - started.children_system
    assert used < 0.45  # 0.2 to 0.3 s; heavy imports would add 0.4 s and more


def test_names_must_be_c_identifiers(tmp_path: Path) -> None:
    options = ("--data", DATA, "--name", "my model")
    assert "my_model" in failure(2, "generate", DIGITS, "-o", tmp_path / "out", *options)


def test_two_models_link_together(project: Path, tmp_path: Path) -> None:
    """No symbol clashes, and both give the single model's outputs."""
    other = tmp_path / "second"
    result("generate", DIGITS, "-o", other, "--data", DATA, "--name", "second")
    source = tmp_path / "both.c"
    source.write_text(
        '#include "digits.h"\n#include "second.h"\n'
        "int both(const int8_t *x, int8_t *a, int8_t *b);\n"
        "int both(const int8_t *x, int8_t *a, int8_t *b)\n"
        "{ digits_predict(x, a); second_predict(x, b); return 0; }\n"
    )
    library = tmp_path / "both.so"
    units = [
        source,
        *(f / f"{f.name}.c" for f in (project, other)),
        *(f / name for f in (project, other) for name in ("kernels.c", "kernels_host.c")),
    ]
    command = ["-shared", "-fPIC", "-std=c99", "-Wall", "-Werror", f"-I{project}", f"-I{other}"]
    compiler = (
        [shutil.which("cc")] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc"]
    )
    subprocess.run([*compiler, *command, "-o", library, *units], check=True)
    import ctypes

    loaded = ctypes.CDLL(str(library))
    x = np.random.default_rng(0).integers(-128, 128, 64).astype(np.int8)
    a, b = np.zeros(10, np.int8), np.zeros(10, np.int8)
    loaded.both(*(ctypes.c_void_p(array.ctypes.data) for array in (x, a, b)))
    assert a.any()
    np.testing.assert_array_equal(a, b)


def test_emulation_is_deterministic(project: Path) -> None:
    options = ("--data", DATA, "--max-samples", 2, "--accuracy", "none")
    started = time.monotonic()
    first, second = result("emulate", project, *options), result("emulate", project, *options)
    assert first == second
    assert time.monotonic() - started < 60
