"""Data files: forms, grids, windows, and what is said about broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codegen import data, metrics
from codegen.ir import Port
from targets.errors import UsageError

PORT = (Port("input", "x", (1, 2, 3), (0, 1, 2)),)


def save(folder: Path, **arrays: object) -> str:
    path = folder / "set.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def test_integers_come_with_their_grid(tmp_path: Path) -> None:
    stored = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    spec = save(tmp_path, x=stored, x_scale=0.5, x_zero_point=4, y=[0, 1], metric="top1")
    found = data.load(spec, PORT)
    assert len(found) == 2
    assert found.metric == "top1"
    np.testing.assert_array_equal(found.real()[0], (stored.astype(np.float32) - 4) * 0.5)


def test_keys_files_and_folders(tmp_path: Path) -> None:
    x = np.ones((3, 2, 3), np.float32)
    spec = save(tmp_path, other=x)
    assert len(data.load(f"{spec}:other", PORT)) == 3
    np.save(tmp_path / "plain.npy", x)
    assert len(data.load(str(tmp_path / "plain.npy"), PORT)) == 3
    folder = tmp_path / "folder"
    folder.mkdir()
    np.save(folder / "a.npy", x[0])
    np.save(folder / "b.npy", x[1])
    assert len(data.load(str(folder), PORT)) == 2


def test_clips_become_windows(tmp_path: Path) -> None:
    clips = np.arange(2 * 5 * 2, dtype=np.float32).reshape(2, 5, 2)
    port = (Port("input", "x", (1, 6), (0, 1)),)
    found = data.load(save(tmp_path, x=clips, y=[0, 1]), port)
    assert len(found) == 6
    assert found.group is not None
    assert found.group.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(found.real()[0][1], clips[0, 1:4].ravel())


@pytest.mark.parametrize(
    ("arrays", "key", "says"),
    [
        ({"z": np.ones(3)}, "x", "no array 'x'"),
        ({"x": np.ones((4, 9, 9, 9))}, "x", "samples have shape"),
        ({"x": np.zeros((0, 2, 3))}, "x", "no samples"),
        ({"x": np.ones((1, 2, 3), np.uint8), "x_scale": -1.0}, "x", "x_scale"),
    ],
)
def test_broken_files_are_named(
    arrays: dict[str, object], key: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=says):
        data.load(save(tmp_path, **arrays), PORT, key)


def test_missing_and_garbage_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        data.load(str(tmp_path / "none.npz"), PORT)
    garbage = tmp_path / "garbage.npz"
    garbage.write_bytes(b"no zip")
    with pytest.raises(UsageError, match="not a readable"):
        data.load(str(garbage), PORT)
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object))
    with pytest.raises(UsageError, match="not a readable"):
        data.load(str(tmp_path / "pickle.npy"), PORT)


def test_auc_counts_pairs() -> None:
    generator = np.random.default_rng(0)
    x = np.zeros((40, 3))
    outputs = generator.integers(0, 4, (40, 3)).astype(float)
    y = generator.integers(0, 2, 40)
    scores = (outputs**2).mean(axis=1)
    pairs = [float(p > n) + 0.5 * float(p == n) for p in scores[y == 1] for n in scores[y == 0]]
    found = metrics.auc_reconstruction(metrics.Scored(x, outputs, y))
    assert found == pytest.approx(np.mean(pairs))


def test_unknown_metric_suggests() -> None:
    with pytest.raises(UsageError) as caught:
        metrics.find("top-1")
    assert "top1" in caught.value.hint
