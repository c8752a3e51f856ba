"""`3ddfa` runs the published network, its pickles are opened safely, and a file of other origin is refused."""

from __future__ import annotations

import os
import pickle
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from scipy.stats import spearmanr

from exprmetric.errors import WeightsError, WeightsHashError, WeightsNotFoundError
from exprmetric.faces import Face, FaceFinder, alignment, load_detector
from exprmetric.io.images import read_image
from exprmetric.methods import load_method
from exprmetric.methods.base import Method
from exprmetric.methods.threedmm import CONVERTED, sources

SOURCES = ("mb05_120x120.pth", "param_mean_std_62d_120x120.pkl")


@pytest.fixture(scope="module")
def conversion() -> ModuleType:
    pytest.importorskip("torch", reason="conversion needs the torch extra")
    from exprmetric.encoder import convert_3ddfa

    return convert_3ddfa


@pytest.fixture(scope="module")
def folder(conversion: ModuleType, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the converted file stands, found by the weight store."""
    out = tmp_path_factory.mktemp("converted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPRMETRIC_WEIGHTS", os.pathsep.join((str(shared / "weights"), str(out))))
        made = conversion.convert(out)
        assert made.path == out / CONVERTED and made.parity < 1e-4
        yield out


@pytest.fixture(scope="module")
def method(folder: Path) -> Method:
    return load_method("3ddfa")


@pytest.fixture(scope="module")
def faces(shared_data: Callable[[str], Path]) -> list[tuple[Face, Face]]:
    """Targets of swaps, each as found by yunet and by dlib."""
    targets = sorted((shared_data("swaps_dev") / "target").iterdir())[::4]
    assert len(targets) >= 24
    images = [read_image(p) for p in targets]
    finders = [FaceFinder(load_detector(name)) for name in ("yunet", "dlib")]
    return [(finders[0].find(i), finders[1].find(i)) for i in images]


def gap(points: npt.NDArray[np.float64]) -> float:
    """How far the lips are apart, in distances between the eyes' outer corners."""
    return float(np.linalg.norm(points[66] - points[62]) / np.linalg.norm(points[45] - points[36]))


def pairs(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    distances: npt.NDArray[np.float64] = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    return distances[np.triu_indices(len(vectors), 1)]


@pytest.mark.shared
@pytest.mark.torch
def test_the_network_sees_how_the_head_stands(
    conversion: ModuleType, folder: Path, shared: Path, method: Method, faces: list[tuple[Face, Face]]
) -> None:
    # The first 12 numbers are a scaled rotation and a shift. Its rows are orthogonal and of one length only if
    # network, statistics, colour order and scaling are all as in training; nothing in the network enforces it.
    import torch

    from exprmetric.methods.onnx import preprocess

    network = conversion.load_network(shared / "weights" / SOURCES[0])
    mean, std = conversion.load_stats(shared / "weights" / SOURCES[1])
    crops = np.stack([preprocess(f.crop("3ddfa"), method.how) for f, _ in faces])  # type: ignore[attr-defined]
    with torch.no_grad():
        parameters = network(torch.from_numpy(crops)).numpy() * std + mean
    assert np.abs(parameters[:, 52:] - method.represent([f for f, _ in faces])).max() < 1e-3
    rows = parameters[:, :12].reshape(-1, 3, 4)[:, :2, :3]
    length = np.linalg.norm(rows, axis=2)
    assert np.abs((rows[:, 0] * rows[:, 1]).sum(1) / length.prod(1)).mean() < 0.02
    assert np.abs(length[:, 0] / length[:, 1] - 1).mean() < 0.03
    eyes = np.array([f.landmarks[42:48].mean(0) - f.landmarks[36:42].mean(0) for f, _ in faces])
    tilt = np.arctan2(eyes[:, 1], eyes[:, 0])
    assert np.corrcoef(np.arctan2(rows[:, 0, 1], rows[:, 0, 0]), tilt)[0, 1] > 0.7


@pytest.mark.shared
@pytest.mark.torch
def test_an_open_mouth_is_far_from_a_closed_one(method: Method, faces: list[tuple[Face, Face]]) -> None:
    vectors = method.represent([f for f, _ in faces])
    assert vectors.shape == (len(faces), 10) and vectors.dtype == np.float32
    gaps = np.array([gap(f.landmarks) for f, _ in faces])
    order = np.argsort(gaps)
    closed, opened = vectors[order[:8]], vectors[order[-8:]]
    assert gaps[order[-8:]].min() > 2 * gaps[order[:8]].max()
    across = np.linalg.norm(closed[:, None] - opened[None], axis=2).mean()
    assert across > 1.3 * pairs(closed).mean()


@pytest.mark.shared
@pytest.mark.torch
def test_detectors_agree(method: Method, faces: list[tuple[Face, Face]]) -> None:
    a, b = (method.represent(side) for side in zip(*faces, strict=True))
    assert np.linalg.norm(a - b, axis=1).mean() < 0.12 * pairs(a).mean()
    assert spearmanr(pairs(a), pairs(b)).statistic > 0.95


@pytest.mark.shared
@pytest.mark.torch
def test_vectors_do_not_depend_on_the_batch_nor_need_pixels(method: Method, faces: list[tuple[Face, Face]]) -> None:
    some = [f for f, _ in faces[:5]]
    together = method.represent(some)
    np.testing.assert_allclose(np.concatenate([method.represent([f]) for f in some]), together, atol=1e-4)
    for face in some:
        assert face.crops["3ddfa"].shape == (120, 120, 3)
    unread = Face(some[0].image, some[0].box, 1.0, some[0].landmarks).prepare(["eyes70"])
    with pytest.raises(ValueError, match="3ddfa"):
        method.represent([unread])
    assert method.represent([]).shape == (0, 10)


def test_the_region_is_3ddfas_around_landmarks() -> None:
    generator = np.random.default_rng(1)
    points = generator.uniform((50, 80), (170, 260), (68, 2))
    face = Face(np.zeros((300, 300, 3), np.uint8), np.array([0.0, 0, 1, 1]), 1.0, points)
    x0, y0, x1, y1 = *points.min(0), *points.max(0)
    radius = max(x1 - x0, y1 - y0) / 2
    diagonal = np.hypot(2 * radius, 2 * radius)  # of the square about the points: the side of the region
    corner = np.array([(x0 + x1) / 2 - diagonal / 2, (y0 + y1) / 2 - diagonal / 2])
    # pixel centres stand at whole numbers, so the first pixel of the crop begins at -0.5
    seen = alignment.transform(face.matrix("3ddfa"), [corner - 0.5, corner + diagonal - 0.5])
    np.testing.assert_allclose(seen, [[-0.5, -0.5], [223.5, 223.5]], atol=1e-9)


@pytest.mark.shared
@pytest.mark.torch
def test_the_command_prints_where_the_file_is(conversion: ModuleType, folder: Path, tmp_path: Path) -> None:
    from exprmetric_cli.main import main

    result = CliRunner().invoke(main, ["weights", "convert", "3ddfa-v2", "--out", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'new' / CONVERTED}\n" and "standard deviations" in result.stderr
    import onnx

    stated = {p.key: p.value for p in onnx.load(tmp_path / "new" / CONVERTED).metadata_props}
    assert stated == sources() and len(set(stated.values())) == 2


@pytest.mark.shared
@pytest.mark.torch
def test_a_file_made_of_other_weights_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(tmp_path))
    model = onnx.load(folder / CONVERTED)
    stated = sources()
    for key in stated:
        onnx.helper.set_model_props(model, {**stated, key: "0" * 64})
        onnx.save(model, tmp_path / CONVERTED)
        with pytest.raises(WeightsHashError, match="convert it again"):
            load_method("3ddfa")
    onnx.helper.set_model_props(model, {})
    onnx.save(model, tmp_path / CONVERTED)
    with pytest.raises(WeightsHashError, match="weights convert 3ddfa-v2"):
        load_method("3ddfa")


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder where weights are looked for."""
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_before_the_conversion_the_command_is_named(alone: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match="exprmetric weights convert 3ddfa-v2"):
        load_method("3ddfa")
    (alone / CONVERTED).write_bytes(b"no protobuf at all")
    with pytest.raises(WeightsError, match="is no ONNX file"):
        load_method("3ddfa")


@pytest.mark.torch
def test_absent_sources_are_named_with_their_command(conversion: ModuleType, alone: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match="weights pull 3ddfa-v2"):
        conversion.convert(alone)


class Attack:
    """Pickled, it writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.write_text, (self.path, "run")


@pytest.mark.torch
@pytest.mark.parametrize("hide", [lambda a: a, lambda a: {"mean": a, "std": a}, lambda a: OrderedDict(mean=a)])
def test_a_malicious_pickle_is_refused_and_does_not_run(
    conversion: ModuleType, tmp_path: Path, hide: Callable[[Attack], object]
) -> None:
    mark, file = tmp_path / "mark", tmp_path / "stats.pkl"
    file.write_bytes(pickle.dumps(hide(Attack(mark))))
    with pytest.raises(WeightsError, match="asks for"):
        conversion.load_stats(file)
    assert not mark.exists()
    pickle.loads(file.read_bytes())
    assert mark.exists()  # it was one


@pytest.mark.torch
def test_statistics_are_two_arrays_of_62_or_nothing(conversion: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "stats.pkl"
    mean, std = np.arange(62, dtype=np.float32), np.ones(62, np.float32)
    file.write_bytes(pickle.dumps({"mean": mean, "std": std}, protocol=3))  # the published file's
    assert np.array_equal(conversion.load_stats(file), [mean, std])
    bad = [
        {"mean": mean}, {"mean": mean, "std": 0 * std}, {"mean": mean[:61], "std": std}, [mean, std], "text",
        {"mean": mean.astype(object), "std": std}, {"mean": mean * np.nan, "std": std}, {"mean": None, "std": None},
    ]  # fmt: skip
    for content in bad:
        file.write_bytes(pickle.dumps(content, protocol=4))
        with pytest.raises(WeightsError):
            conversion.load_stats(file)
    for garbage in (b"", b"\x80", b"no pickle", b"c"):
        file.write_bytes(garbage)
        with pytest.raises(WeightsError):
            conversion.load_stats(file)


@pytest.mark.shared
@pytest.mark.torch
@pytest.mark.parametrize("changed", SOURCES)
def test_a_changed_source_is_refused_before_it_is_opened(
    conversion: ModuleType, shared: Path, alone: Path, changed: str
) -> None:
    for name in SOURCES:
        shutil.copy(shared / "weights" / name, alone / name)
    mark = alone / "mark"
    (alone / changed).write_bytes(pickle.dumps(Attack(mark)))
    with pytest.raises(WeightsHashError):
        conversion.convert(alone)
    assert not mark.exists() and not (alone / CONVERTED).exists()


@pytest.mark.torch
def test_a_network_of_another_shape_or_name_is_refused(conversion: ModuleType, tmp_path: Path) -> None:
    import torch

    state = {f"module.{k}": v for k, v in conversion.MobileNet().state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "good.pth")
    conversion.load_network(tmp_path / "good.pth")
    wide = {f"module.{k}": v for k, v in conversion.MobileNet(1.0).state_dict().items()}
    less = {k: v for k, v in state.items() if "fc_lm" not in k}
    for bad in (wide, less, {**state, "module.more": torch.zeros(1)}):
        torch.save({"state_dict": bad}, tmp_path / "bad.pth")
        with pytest.raises(WeightsError, match="3DDFA_V2's network"):
            conversion.load_network(tmp_path / "bad.pth")
    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Attack(tmp_path / "mark")))
    with pytest.raises(WeightsError, match="3DDFA_V2's network"):
        conversion.load_network(tmp_path / "bad.pth")
    assert not (tmp_path / "mark").exists()
