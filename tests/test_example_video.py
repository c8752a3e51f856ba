"""What the README shows of videos can be made again: its clip, and the thresholds of tags."""

from __future__ import annotations

import importlib.util
import io
import re
import shlex
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main as cli
from PIL import Image
from scipy.spatial.distance import pdist

from exprmetric.datasets.layouts import open_dataset
from exprmetric.demo.make import DemoFace, demo_faces
from exprmetric.errors import InputError
from exprmetric.faces import FaceFinder, load_detector
from exprmetric.methods import load_method

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "not_face")


def loaded(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)


@pytest.fixture
def clip(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return loaded("examples/video_clip.py", monkeypatch)


@pytest.fixture
def thresholds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return loaded("benchmarks/tag_thresholds.py", monkeypatch)


class TestClip:
    @pytest.mark.parametrize("seconds", [3.0, 8.0])
    def test_one_blink_and_one_smile_are_left_out(self, clip: ModuleType, seconds: float) -> None:
        def heights(signal: np.ndarray) -> list[int]:
            inner = signal[1:-1]
            return (1 + np.flatnonzero((inner > signal[:-2]) & (inner >= signal[2:]) & (inner > 0.8))).tolist()

        whole = clip.part(seconds)
        lacking = clip.part(seconds, without=(clip.LEFT_OUT_SMILE, clip.LEFT_OUT_BLINK))
        smiles, blinks = heights(whole.smile), heights(whole.blink)
        assert len(smiles) == len(blinks) == 3 and len(whole.smile) == 25 * seconds
        assert heights(lacking.smile) == smiles[:2]
        assert heights(lacking.blink) == [blinks[0], blinks[2]]
        assert np.array_equal(lacking.brows, whole.brows) and len(heights(whole.brows)) == 1

    def test_the_photograph_is_the_smile(self, clip: ModuleType) -> None:
        points = np.random.default_rng(0).uniform(0, 255, (68, 2))
        assert clip.expression(points, 1, 0, 0) == pytest.approx(points, abs=1e-9)
        shut = clip.expression(points, 1, 1, 0)
        gap = np.linalg.norm(points[[37, 38, 43, 44]] - points[[41, 40, 47, 46]], axis=1)
        assert np.linalg.norm(shut[[37, 38, 43, 44]] - points[[41, 40, 47, 46]], axis=1) == pytest.approx(0.15 * gap)

    @pytest.mark.parametrize("seconds", [0.5, -1, float("nan")])
    def test_too_short(self, clip: ModuleType, seconds: float, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=re.escape(str(seconds))):
            clip.make_clip(tmp_path / "out", seconds)
        assert not (tmp_path / "out").exists()

    @pytest.mark.slow
    def test_it_is_made_and_the_command_finds_what_is_left_out(
        self, clip: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("av")
        out = tmp_path / "a clip"
        clip.main(["--out", str(out), "--seconds", "3"])
        command = shlex.split(capsys.readouterr().out)
        files = [str(out / name) for name in ("target.mp4", "source.png", "swapped.mp4")]
        methods = ["-m", "default", "-m", "lm68", "-m", "blendshapes"]
        assert command == ["exprmetric", "video", "evaluate", *files, *methods, "--out", str(out / "report")]
        assert {str(p) for p in out.iterdir()} == set(files)

        command = command[1 : command.index("-m")]  # blendshapes need weights
        done = CliRunner().invoke(cli, [*command, "-m", "lm68", "--no-identity", "--detector", "dlib", "--quiet"])
        assert done.exit_code == 0, done.output
        assert "1 of 1 clips measured, 75 of 75 frames" in done.output
        blinks = re.search(r"blink +(\d+) +(\d+)", done.output)
        assert blinks is not None and blinks.groups() == ("3", "2"), done.output


def png(image: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()


def ferplus(path: Path, rows: list[tuple[str, dict[str, int]]], image: bytes | list[bytes] = b"") -> Path:
    """A zip file as FER+'s, of rows (split, votes); image i is `i.png`."""
    lines = [",".join(["split", "image", *NAMES])]
    with zipfile.ZipFile(path, "w") as file:
        for i, (split, votes) in enumerate(rows):
            lines.append(",".join([split, f"{i}.png", *(str(votes.get(name, 0)) for name in NAMES)]))
            file.writestr(f"{split}/{i}.png", image if isinstance(image, bytes) else image[i])
        file.writestr("labels.csv", "\n".join(lines))
    return path


class TestThresholds:
    def test_only_faces_on_which_raters_agree(self, thresholds: ModuleType, tmp_path: Path) -> None:
        rows = [
            ("test", {"happiness": 8, "neutral": 2}),
            ("test", {"happiness": 7, "neutral": 3}),
            ("test", {"happiness": 5, "unknown": 4, "not_face": 1}),  # all who saw an expression, but not 8
            ("train", {"happiness": 10}),
            ("valid", {"anger": 10}),
            ("test", {"not_face": 10}),
            ("test", {"anger": 9, "unknown": 1}),
        ]
        dataset = open_dataset(ferplus(tmp_path / "f.zip", rows))
        found = [dataset.samples[i].image for i in thresholds.agreed(dataset)]
        assert sorted(found) == ["test/0.png", "test/6.png"]
        with pytest.raises(InputError, match="0 test faces"):
            thresholds.agreed(dataset, agree=10)

    def test_at_most_so_many_of_each_and_as_the_seed_has_it(self, thresholds: ModuleType, tmp_path: Path) -> None:
        rows = [("test", {"happiness": 10})] * 30 + [("test", {"fear": 10})] * 3
        dataset = open_dataset(ferplus(tmp_path / "f.zip", rows))
        one, same, other = (thresholds.agreed(dataset, most=5, seed=seed) for seed in (0, 0, 1))
        assert one == same != other
        labels = [dataset.samples[i].label for i in one]
        assert len(set(one)) == 8 and [labels.count(k) for k in (1, 6)] == [5, 3]

    def test_other_data_sets_have_no_votes(self, thresholds: ModuleType, tmp_path: Path) -> None:
        (tmp_path / "d" / "happy").mkdir(parents=True)
        (tmp_path / "d" / "happy" / "a.png").write_bytes(b"")
        with pytest.raises(InputError, match="votes"):
            thresholds.agreed(open_dataset(tmp_path / "d"))

    def test_distances_are_those_of_all_pairs(self, thresholds: ModuleType) -> None:
        vectors = np.random.default_rng(0).normal(size=(9, 136)).astype(np.float32)
        found = thresholds.pair_distances(load_method("lm68"), vectors)
        assert found == pytest.approx(pdist(vectors.astype(np.float64)), rel=1e-5)

    @pytest.mark.parametrize("apart", [0.0, 100.0])
    def test_three_quarters_of_the_same_unless_too_many_others(self, thresholds: ModuleType, apart: float) -> None:
        vectors = np.random.default_rng(1).normal(size=(60, 136)).astype(np.float32)
        vectors[30:] += np.float32(apart)
        labels = np.repeat([1, 4], 30)
        found = thresholds.measure(load_method("lm68"), labels, vectors)
        assert (found.same_pairs, found.other_pairs) == (2 * 30 * 29 // 2, 30 * 30)
        limited, share = ("same_within", 0.75) if apart else ("other_within", 0.05)
        assert getattr(found, limited) == pytest.approx(share, abs=0.002)
        assert found.same_within <= 0.751 and found.other_within <= 0.051

    def test_the_command(self, thresholds: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        faces: list[DemoFace] = demo_faces(load_detector("dlib"))[:4]
        grey = np.full((64, 64, 3), 90, np.uint8)
        rows = [("test", {"happiness": 10})] * 2 + [("test", {"anger": 10})] * 2 + [("test", {"fear": 10})]
        data = ferplus(tmp_path / "f.zip", rows, [png(f.image) for f in faces] + [png(grey)])
        thresholds.main([str(data), "lm68", "lm51:cosine", "--detector", "dlib", "--jobs", "1"])
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "4 of 5 faces measured, found by dlib: 2 happiness, 2 anger"
        header, _, lm68, cosine = (line.strip("| ").split(" | ") for line in lines[-4:])
        assert len(header) == len(lm68) == len(cosine) == 7
        assert lm68[0] == "lm68" and (lm68[2], lm68[4], lm68[6]) == ("2", "4", "0.3")
        assert cosine[0] == "lm51:cosine" and cosine[6] == "–"

        finder, method = FaceFinder(load_detector("dlib")), load_method("lm68")
        a, b, c, d = method.represent([finder.find(f.image) for f in faces]).astype(np.float64)
        same = [np.linalg.norm(x - y) for x, y in ((a, b), (c, d))]
        other = [np.linalg.norm(x - y) for x, y in ((a, c), (a, d), (b, c), (b, d))]
        assert float(lm68[1]) == pytest.approx(min(np.quantile(same, 0.75), np.quantile(other, 0.05)), rel=0.01)
