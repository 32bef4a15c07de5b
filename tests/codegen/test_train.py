"""Training with fake quantization: grids, gradients, the network as the device computes, the loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen import importer, onnx_save, pipeline, reference
from codegen.data import DataSet
from codegen.execute import run_float, to_device
from codegen.ir import Array, FloatArray, Graph
from codegen.qdq import dequantize
from codegen.quant import lower, quantize, trainable
from targets.errors import UsageError
from tests.codegen.test_onnx_save import EXAMPLES, NETS, model_of, started, stored

torch: Any = pytest.importorskip("torch", reason="PyTorch is not installed (extra qat)")

from codegen.train import augment, fake_quant, fit, network, torch_ops  # noqa: E402


def floats(*shape: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tensor(values: Array) -> Any:
    return torch.from_numpy(np.asarray(values, np.float32)).requires_grad_(True)


def test_every_operator_that_is_written_can_be_trained() -> None:
    assert set(torch_ops.OPERATORS) == set(onnx_save.WRITERS)
    assert set(torch_ops.LOOKUPS) == {*onnx_save.FUNCTIONS, "clip", "sign"}


@pytest.mark.parametrize("name", [*NETS, "digits", "motions"])
def test_the_teacher_is_the_float_model(name: str, tmp_path: Path) -> None:
    graph = pipeline.run(importer.load(model_of(name, tmp_path)))
    inputs = tuple(floats(6, *graph.tensors[p.tensor].shape[1:]) for p in graph.inputs)
    found = network.FloatNetwork(graph).logits(tuple(map(torch.from_numpy, inputs)))
    seen: dict[str, Array] = {}
    run_float(graph, inputs, seen.__setitem__)
    for tensor_, logits in zip(network.output_logits(graph), found, strict=True):
        wanted = np.asarray(seen[tensor_], np.float32)
        np.testing.assert_allclose(logits.numpy(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weights", ["int8", "int4"])
@pytest.mark.parametrize("name", [*NETS, "digits", "motions"])
def test_the_network_sees_what_the_device_computes(name: str, weights: str, tmp_path: Path) -> None:
    graph = pipeline.run(importer.load(model_of(name, tmp_path)))
    model = network.Network(started(graph, weights))
    quantized = quantize.quantize(trainable.trained(model.start, model.learned()), {}, True)
    x = stored(quantized)
    real = (
        torch.from_numpy(reference.to_real(quantized, p, v))
        for p, v in zip(quantized.inputs, x, strict=True)
    )
    found = model.logits(tuple(real))
    seen: dict[str, list[Array]] = {}
    reference.run(quantized, x, lambda n, v: seen.setdefault(n, []).append(v))
    for output, logits in zip(network.output_logits(graph), found, strict=True):
        wanted = dequantize(np.concatenate(seen[output]), quantized.tensors[output].grid)
        steps = np.abs(logits.detach().numpy() - wanted) / quantized.tensors[output].grid.scale
        # Sums of the device are exact, those in float32 are not: now and then one rounds elsewhere.
        assert steps.max() < 2.5 and (steps < 0.01).mean() > 0.97


def test_scales_learn_as_lsq_says() -> None:
    w, s = tensor(floats(3, 8)), tensor(np.full((3, 1), 0.3))
    fake_quant.uniform(w, s, -7, 7).sum().backward()
    x, scale = w.detach().numpy(), 0.3
    inside = np.abs(x / scale) <= 7
    each = np.where(inside, np.rint(x / scale) - x / scale, np.sign(x) * 7)
    np.testing.assert_allclose(
        s.grad.numpy()[:, 0], each.sum(axis=1) / np.sqrt(8 * 7), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(w.grad.numpy(), inside.astype(np.float32))


@pytest.mark.parametrize(("low", "high"), [(-7, 7), (0, 255), (-3, 12)])
def test_one_scale_learns_alike(low: int, high: int) -> None:
    x = tensor(floats(4, 5, 6, 3, seed=high))
    s = tensor(np.array(0.21))
    weight = torch.from_numpy(floats(4, 5, 6, 3, seed=9))
    found = {}
    for function in (fake_quant.uniform, fake_quant.shared):
        x.grad = s.grad = None
        y = function(x, s, low, high)
        (y * weight).sum().backward()
        found[function] = y.detach().numpy(), x.grad.numpy(), s.grad.numpy()
    for mine, wanted in zip(found[fake_quant.shared], found[fake_quant.uniform], strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-6)


def test_signs_let_gradients_pass_near_zero() -> None:
    x = tensor(np.array([-8.0, -1.0, -0.5, 0.0, 0.5, 2.0]))
    y = fake_quant.signs(x)
    np.testing.assert_array_equal(y.detach().numpy(), [-1, -1, -1, 1, 1, 1])
    y.sum().backward()
    reach = fake_quant.SIGN_REACH * 2.0  # the mean magnitude is 2
    np.testing.assert_allclose(x.grad.numpy(), np.array([0, 1, 1, 1, 1, 1]) / reach, rtol=1e-5)


def test_two_scales_learn_as_ttq_says() -> None:
    w, up, down = tensor(floats(2, 30)), tensor(np.full((2, 1), 0.9)), tensor(np.full((2, 1), 0.6))
    found = fake_quant.two_scales(w, up, down)
    found.sum().backward()
    x = w.detach().numpy()
    cut = fake_quant.TERNARY_CUT * np.abs(x).mean(axis=1, keepdims=True)
    above, below = x > cut, x < -cut
    np.testing.assert_allclose(np.unique(found.detach().numpy()), [-0.6, 0, 0.9], atol=0.005)
    np.testing.assert_allclose(up.grad.numpy()[:, 0], above.sum(axis=1))
    np.testing.assert_allclose(down.grad.numpy()[:, 0], -below.sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(w.grad.numpy(), np.where(above, 0.9, np.where(below, 0.6, 1.0)))


def test_signs_are_nearest_or_drawn() -> None:
    w, s = tensor(np.array([[-0.9, -0.2, 0.0, 0.3, 2.0]])), tensor(np.array([[0.5]]))
    plain = fake_quant.binary(w, s, None)
    np.testing.assert_allclose(plain.detach().numpy()[0], [-0.5, -0.5, 0.5, 0.5, 0.5])
    plain.sum().backward()
    np.testing.assert_allclose(w.grad.numpy()[0], np.array([0, 1, 1, 1, 0]), atol=1e-6)
    noise = torch.rand((20_000, 1), generator=torch.Generator().manual_seed(1))
    wide = torch.full((20_000, 1), -0.2)
    drawn = fake_quant.binary(wide, torch.full((20_000, 1), 0.5), noise)
    assert float((drawn > 0).float().mean()) == pytest.approx((1 - 0.4) / 2, abs=0.01)


def test_images_are_moved_and_mirrored() -> None:
    x = torch.arange(1.0, 49.0).reshape(2, 4, 6, 1)
    random = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(60):
        (y,) = augment.augmented((x,), 1, True, random)
        assert y.shape == x.shape
        seen.add(tuple(int(v) for v in y[1, 1:3, 2:4, 0].flatten()))
    original = x[1, 1:3, 2:4, 0].flatten()
    assert tuple(int(v) for v in original) in seen and len(seen) == 18
    with pytest.raises(UsageError, match="one image"):
        augment.augmented((x[:, 0],), 1, False, random)


def digits(weights: str | None, scheme: str | None = None) -> tuple[trainable.Start, fit.Samples]:
    folder = EXAMPLES / "digits"
    graph = pipeline.run(importer.load(folder / "digits.onnx"))
    with np.load(folder / "digits.npz") as arrays:
        x, y = arrays["x"][:300].astype(np.float32) / 16, arrays["y"][:300]
    start = started(graph, "int4" if weights in ("int4", "ternary") else None)
    chosen = lower.choose(graph, lower.Formats(lower.Format(weights, scheme)), False)
    start = replace(start, forms=trainable.forms(graph, chosen))
    found = DataSet((x,), (None,), y)
    return start, fit.Samples(graph, found, fit.labels_of(graph, found))


@pytest.mark.parametrize(
    ("weights", "scheme", "stochastic", "least"),
    [
        ("ternary", "ttq", False, 0.85),
        ("binary", "binary", False, 0.85),
        ("binary", "binary", True, 0.6),
    ],
)
def test_training_lowers_the_loss(
    weights: str, scheme: str, stochastic: bool, least: float
) -> None:
    start, samples = digits(weights, scheme)
    model = network.Network(start)
    how = fit.Training(epochs=6, rate=5e-3, held_out=0.3, stochastic=stochastic)
    trainer = fit.Trainer(model, samples, how)
    trainer.run(lambda done: None)
    losses = trainer.progress.losses
    assert trainer.progress.best_loss < 0.7 * losses[0]
    assert trainer.evaluate(trainer.held_out)[0] == pytest.approx(min(losses), rel=1e-5)
    accuracy = trainer.progress.accuracies[trainer.progress.best_epoch]
    assert accuracy is not None and accuracy > least
    learned = model.learned().weights
    for output, form in start.forms.items():
        values = np.unique(learned[output].stored)
        assert values.min() >= form.low and values.max() <= form.high
        if form.kind == "binary":
            assert values.tolist() == [-1, 1]


def parameters(model: network.Network) -> dict[str, Array]:
    return {name: value.detach().numpy().copy() for name, value in model.parameters.items()}


def trained(start: trainable.Start, samples: fit.Samples, **how: Any) -> tuple[Any, list[float]]:
    folder = how.pop("folder", None)
    model = network.Network(start)
    trainer = fit.Trainer(model, samples, fit.Training(held_out=0.3, **how), folder)
    trainer.run(lambda done: None)
    return parameters(model), trainer.progress.losses


def test_a_seed_gives_the_same_weights_and_so_does_resuming(tmp_path: Path) -> None:
    start, samples = digits("binary")
    how: dict[str, Any] = {
        "epochs": 4,
        "rate": 5e-3,
        "shift": 1,
        "flip": True,
        "stochastic": True,
        "seed": 3,
    }
    whole, losses = trained(start, samples, **how)
    again, _ = trained(start, samples, **how)
    trainer = fit.Trainer(
        network.Network(start),
        samples,
        fit.Training(held_out=0.3, **how),
        tmp_path,
    )
    stop = 2

    class Interrupted(Exception):
        pass

    def interrupt(done: int) -> None:
        if trainer.progress.epoch == stop:
            raise Interrupted

    with pytest.raises(Interrupted):
        trainer.run(interrupt)
    resumed, continued = trained(start, samples, folder=tmp_path, **how)
    assert continued == losses and len(losses) == 5
    for name, value in whole.items():
        np.testing.assert_array_equal(value, again[name])
        np.testing.assert_array_equal(value, resumed[name])
    with pytest.raises(UsageError, match="another training"):
        trained(start, samples, folder=tmp_path, **how | {"seed": 4})
    (tmp_path / fit.CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(UsageError, match="no readable checkpoint"):
        trained(start, samples, folder=tmp_path, **how)


def test_training_ends_early_or_in_time() -> None:
    start, samples = digits("binary")
    # So slow that nothing becomes better: the first epochs are all.
    _, losses = trained(start, samples, epochs=30, rate=1e-12, patience=2)
    assert len(losses) <= 4
    _, losses = trained(start, samples, epochs=30, minutes=1e-9)
    assert len(losses) == 2


def test_without_labels_the_float_outputs_are_enough(tmp_path: Path) -> None:
    graph = pipeline.run(importer.load(model_of("channels last", tmp_path)))
    start = started(graph, "int4")
    found = DataSet((floats(64, *graph.inputs[0].shape[1:]),), (None,))
    trainer = fit.Trainer(
        network.Network(start), fit.Samples(graph, found, None), fit.Training(epochs=8, rate=3e-3)
    )
    trainer.run(lambda done: None)
    assert trainer.progress.best_loss < trainer.progress.losses[0]
    assert set(trainer.progress.accuracies) == {None}


def test_a_float_model_learns_and_stays_one() -> None:
    graph = digits(None)[0].graph
    with np.load(EXAMPLES / "digits" / "digits.npz") as arrays:
        x, y = arrays["x"][:300].astype(np.float32) / 16, arrays["y"][:300]
    # Other labels than it was made for: the answers of its own are of no use then.
    samples = fit.Samples(graph, DataSet((x,), (None,), y), ((y + 1) % 10).astype(np.int64))
    model = network.LearningFloat(graph)
    trainer = fit.Trainer(model, samples, fit.Training(epochs=8, rate=3e-3, distill=0))
    trainer.run(lambda done: None)
    assert trainer.progress.best_loss < 0.3 * trainer.progress.losses[0]
    assert trainer.progress.seconds > 0
    learned = model.learned()
    inputs = torch.from_numpy(to_device(graph.inputs[0], x[:9]))
    wanted = network.FloatNetwork(learned).logits((inputs,))[0]
    np.testing.assert_allclose(model.logits((inputs,))[0].detach(), wanted, rtol=1e-5, atol=1e-5)
    before = network.FloatNetwork(graph).logits((inputs,))[0]
    assert float((before - wanted).abs().max()) > 1


def test_labels_are_classes_or_nothing() -> None:
    start, samples = digits(None)
    graph: Graph = start.graph
    assert samples.labels is not None and samples.labels.dtype == np.int64
    for y in (None, np.zeros(3), np.array([0, 10]), np.array([[1], [2]])):
        assert fit.labels_of(graph, replace(samples.found, y=y)) is None
