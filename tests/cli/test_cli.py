"""The command line: what it prints where, its exit statuses, its files; and that starting it loads nothing heavy."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import demo_text
import numpy as np
import pytest
from click.testing import CliRunner, Result
from exprmetric_cli.main import COMMANDS, main
from PIL import Image

from exprmetric.evaluation.result import EvaluationResult

ROOT = Path(__file__).resolve().parents[2]
FAST = ["--method", "lm68", "--method", "lm51", "--no-identity", "--detector", "dlib"]

BOOT = f"""
import importlib.util, sys
if importlib.util.find_spec("exprmetric") is None or importlib.util.find_spec("exprmetric_cli") is None:
    sys.path.insert(0, {str(ROOT)!r})
    spec = importlib.util.spec_from_file_location(
        "exprmetric_cli", {str(ROOT / "cli" / "__init__.py")!r}, submodule_search_locations=[{str(ROOT / "cli")!r}]
    )
    sys.modules["exprmetric_cli"] = importlib.util.module_from_spec(spec)
"""


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No weights but those that packages carry."""
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def swaps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three real swaps of the bundled photographs."""
    from exprmetric.demo.make import demo_faces
    from exprmetric.faces import load_detector
    from exprmetric.faces.swap import swap_face

    folder = tmp_path_factory.mktemp("input") / "swaps"
    pairs = list(permutations(demo_faces(load_detector("dlib")), 2))[::7][:3]
    for target, source in pairs:
        swapped = swap_face(target.image, target.points, source.image, source.points)
        for role, image in (("target", target.image), ("source", source.image), ("swapped", swapped)):
            (folder / role).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / role / f"{target.name}_{source.name}.png")
    return folder


@pytest.fixture(scope="module")
def ids(swaps: Path) -> list[str]:
    return sorted(p.stem for p in (swaps / "target").iterdir())


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    """A picture without a face."""
    path = tmp_path / "blank.png"
    Image.new("RGB", (200, 200), "grey").save(path)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def in_a_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BOOT + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False)


def manifest(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(swaps: Path, ids: list[str], **more: object) -> list[dict[str, object]]:
    return [{role: swaps / role / f"{i}.png" for role in ("target", "source", "swapped")} | more for i in ids]


def refused(result: Result, *words: str) -> None:
    """Exit status 2, a message that names these words, nothing on stdout, no traceback."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Error: " in result.stderr and result.stdout == ""
    for word in words:
        assert word in result.stderr


# --- starting ---

HEAVY = ("torch", "onnxruntime", "onnx", "cv2", "dlib", "numpy", "PIL", "scipy", "insightface", "pyarrow", "timm")
REPORT = f"""
print("loaded:", sorted({{name.partition(".")[0] for name in sys.modules}} & set({HEAVY})))
"""


@pytest.mark.parametrize(
    "code",
    [
        "import exprmetric",
        "import exprmetric.errors, exprmetric_cli.main",
        "from exprmetric_cli.main import main; main(['--help'], standalone_mode=False)",
        "from exprmetric_cli.main import main; main(['--version'], standalone_mode=False)",
        "from exprmetric_cli.main import main; main(['evaluate', '--help'], standalone_mode=False)",
        "from exprmetric_cli.main import main; main(['weights', '--help'], standalone_mode=False)",
    ],
)
def test_starting_loads_nothing_heavy(code: str):
    done = in_a_process(code + REPORT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_the_check_for_heavy_modules_can_fail():
    assert in_a_process("import numpy" + REPORT).stdout == "loaded: ['numpy']\n"


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), *(["weights", c] for c in ("list", "pull"))])
def test_every_command_explains_itself(command: list[str]):
    for flag in ("--help", "-h"):
        result = run(*command, flag)
        assert result.exit_code == 0 and result.stdout.startswith("Usage: ") and result.stderr == ""


def test_help_lists_all_commands_with_a_line_each():
    text = run("--help").stdout
    for name, (_, line) in COMMANDS.items():
        assert f"  {name}" in text and line in text


def test_an_unknown_command_is_wrong_usage():
    refused(run("evalute"), "evalute")


# --- evaluate ---


def test_json_is_all_that_stands_on_stdout(swaps: Path, ids: list[str]):
    done = in_a_process("from exprmetric_cli.main import main; main()", "evaluate", swaps, *FAST, "--format", "json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["coverage"] == {"triplets": 3, "ok": 3, "failed": {}}
    assert set(summary["methods"]) == {"lm68", "lm51"} and summary["identity"] is None
    for scores in summary["methods"].values():
        assert scores["n"] == 3
        for name in ("l2_error", "mean_t2c", "ratio"):
            low, high = scores[name]["ci95"]
            assert low <= scores[name]["value"] <= high
        assert scores["anchors"]["nothing_swapped"]["mean_t2c"] == 0


def test_progress_goes_to_stderr_and_quiet_silences_it(swaps: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # a bar is drawn though nobody watches
    loud, quiet = (run("evaluate", swaps, *FAST, "--format", "json", *q) for q in ([], ["--quiet"]))
    assert "measuring" in loud.stderr and quiet.stderr == ""
    assert json.loads(loud.stdout)["methods"] == json.loads(quiet.stdout)["methods"]


def test_csv_gives_the_numbers_of_json(swaps: Path):
    table = list(csv.DictReader(io.StringIO(run("evaluate", swaps, *FAST, "--format", "csv").stdout)))
    methods = json.loads(run("evaluate", swaps, *FAST, "--format", "json").stdout)["methods"]
    assert [(r["split"], r["method"], r["n"], r["triplets"]) for r in table] == [
        ("all", "lm68", "3", "3"),
        ("all", "lm51", "3", "3"),
    ]
    for row in table:
        for name in ("l2_error", "mean_t2c", "ratio"):
            score = methods[row["method"]][name]
            assert [float(row[name]), float(row[f"{name}.low"]), float(row[f"{name}.high"])] == [
                score["value"],
                *score["ci95"],
            ]


def test_table_and_markdown_show_scores_anchors_and_coverage(swaps: Path):
    scores = json.loads(run("evaluate", swaps, *FAST, "--format", "json").stdout)["methods"]["lm68"]
    for form in ("table", "markdown"):
        result = run("evaluate", swaps, *FAST, "--format", form)
        assert result.exit_code == 0
        assert result.stdout.startswith("3 of 3 triplets measured (100.0 %)")
        for text in ("lm68", "lm51", "nothing swapped", "source pasted", f"{scores['mean_t2c']['value']:.3f} ["):
            assert text in result.stdout
        assert "dlib" in result.stdout.splitlines()[0]


def test_out_writes_the_files_and_says_so_on_stderr(swaps: Path, ids: list[str], tmp_path: Path):
    out = tmp_path / "new" / "result"
    result = run("evaluate", swaps, *FAST, "--format", "json", "--out", out)
    assert result.exit_code == 0
    assert json.loads((out / "summary.json").read_text()) == json.loads(result.stdout)
    assert str(out) in result.stderr
    with (out / "triplets.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["id"] for r in rows] == ids and {r["status"] for r in rows} == {"ok"}
    assert all(float(r[f"lm51.{d}"]) > 0 for r in rows for d in ("t2c", "s2c", "s2t"))
    import pyarrow.parquet

    assert pyarrow.parquet.read_table(out / "triplets.parquet").column("id").to_pylist() == ids
    assert sorted(p.name for p in out.iterdir()) == ["report.html", "summary.json", "triplets.csv", "triplets.parquet"]


def test_one_triplet_by_its_three_images(swaps: Path, ids: list[str]):
    three = [f"--{role}={swaps / role / ids[0]}.png" for role in ("target", "source", "swapped")]
    result = run("evaluate", *three, *FAST, "--format", "json")
    assert result.exit_code == 0
    import exprmetric

    expected = exprmetric.evaluate_triplet(*(t.partition("=")[2] for t in three), ["lm68"], detector="dlib")
    found = json.loads(result.stdout)["methods"]["lm68"]
    assert found["n"] == 1 and found["mean_t2c"]["value"] == pytest.approx(expected["lm68"]["t2c"])
    assert found["mean_s2t"] == pytest.approx(expected["lm68"]["s2t"])


def test_status_1_when_nothing_could_be_measured(swaps: Path, ids: list[str], blank: Path, tmp_path: Path):
    rows = [r | {"swapped": blank} for r in rows_of(swaps, ids[:1])] + [
        r | {"id": "second", "source": tmp_path / "absent.png"} for r in rows_of(swaps, ids[1:2])
    ]
    rows = [{"id": f"row {i}"} | r for i, r in enumerate(rows)]
    path = manifest(tmp_path / "failing.csv", rows)
    for form in ("json", "table", "csv", "markdown"):
        result = run("evaluate", path, *FAST, "--format", form, "--out", tmp_path / form)
        assert result.exit_code == 1
        assert "nothing could be measured. no_face: " in result.stderr and "; unreadable: source" in result.stderr
        assert (tmp_path / form / "summary.json").is_file()
        if form == "json":
            assert json.loads(result.stdout)["coverage"]["failed"] == {"no_face": 1, "unreadable": 1}
        if form == "table":
            assert "no_face: row 0: swapped" in result.stdout and "absent.png" in result.stdout.replace("\n", "")


def test_a_failed_row_lowers_the_coverage_and_not_the_status(swaps: Path, ids: list[str], blank: Path, tmp_path: Path):
    rows = rows_of(swaps, ids)
    rows[1]["swapped"] = blank
    result = run("evaluate", manifest(tmp_path / "m.csv", rows), *FAST)
    assert result.exit_code == 0
    assert result.stdout.startswith("2 of 3 triplets measured (66.7 %); failed: no_face 1")
    worst = run("evaluate", tmp_path / "m.csv", *FAST, "--on-fail", "worst", "--format", "json")
    assert json.loads(worst.stdout)["methods"]["lm68"]["n"] == 3


def test_wrong_usage_has_status_2(swaps: Path, ids: list[str], tmp_path: Path):
    (tmp_path / "columns.csv").write_text("target,source,swaped\na.png,b.png,c.png\n")
    (tmp_path / "empty").mkdir()
    target = swaps / "target" / f"{ids[0]}.png"
    refused(run("evaluate", tmp_path / "columns.csv"), "swapped", "'swaped'")
    refused(run("evaluate", tmp_path / "empty"), "target")
    refused(run("evaluate", tmp_path / "absent"), "absent")
    refused(run("evaluate", swaps, "--method", "lm69"), "'lm69'", "lm68")
    refused(run("evaluate", swaps, "--method", "lm68:far"), "'far'")
    refused(run("evaluate", swaps, *FAST, "--format", "xml"), "xml")
    refused(run("evaluate", swaps, *FAST, "--detector", "eyes"), "eyes")
    refused(run("evaluate"), "INPUT")
    refused(run("evaluate", swaps, "--target", target), "INPUT")
    refused(run("evaluate", "--target", target, "--source", target), "--swapped")


def test_results_are_not_mixed_with_the_input(swaps: Path, ids: list[str], tmp_path: Path):
    before = sorted(swaps.rglob("*"))
    refused(run("evaluate", swaps, *FAST, "--out", swaps), "--out")
    refused(run("evaluate", swaps, *FAST, "--out", swaps / "target" / ".."), "--out")
    assert sorted(swaps.rglob("*")) == before
    path = manifest(tmp_path / "triplets.csv", rows_of(swaps, ids))
    content = path.read_bytes()
    refused(run("evaluate", path, *FAST, "--out", tmp_path), "--out")
    assert path.read_bytes() == content


def test_an_absent_provider_is_no_silent_cpu(swaps: Path, monkeypatch: pytest.MonkeyPatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    result = run("evaluate", swaps, "--method", "default", "--provider", "cuda", "--no-identity", "--detector", "dlib")
    assert result.exit_code == 1 and "'cuda'" in result.stderr and result.stdout == ""


@pytest.mark.parametrize(
    ("model", "in_markdown"),
    [
        ("[red]x[/red]", r"\[red\]x\[/red\]"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a|b*c_d`e", r"a\|b\*c\_d\`e"),
        ("[/]", r"\[/\]"),
    ],
)
def test_markup_in_a_models_name_is_shown_and_not_obeyed(
    model: str, in_markdown: str, swaps: Path, ids: list[str], tmp_path: Path
):
    path = manifest(tmp_path / "m.csv", rows_of(swaps, ids, model=model))
    rows = run("evaluate", path, *FAST).stdout.splitlines()
    assert [row.split()[1:4] for row in rows if row.strip().startswith(model)] == [["3", "0", "lm68"]]
    markdown = run("evaluate", path, *FAST, "--format", "markdown").stdout
    assert f"| {in_markdown} | 3 |" in markdown
    assert "<script" not in markdown
    assert model in json.loads(run("evaluate", path, *FAST, "--format", "json").stdout)["groups"]


def test_escape_codes_in_names_do_not_reach_the_terminal(swaps: Path, ids: list[str], blank: Path, tmp_path: Path):
    rows = rows_of(swaps, ids, model="\x1b[31mred")
    rows = [{"id": f"\x1b]0;title\x07{i}"} | r for i, r in enumerate(rows)]
    rows[0]["swapped"] = blank
    result = run("evaluate", manifest(tmp_path / "m.csv", rows), *FAST)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout and "\x07" not in result.stdout
    assert r"\x1b[31mred" in result.stdout and r"no_face: \x1b]0;title\x070" in result.stdout


# --- embed ---


def test_embed_writes_paths_vectors_and_what_became_of_each_image(swaps: Path, blank: Path, tmp_path: Path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    out = tmp_path / "new" / "faces.npz"
    folder = swaps / "target"
    result = run("embed", folder, blank, tmp_path / "broken.jpg", "-m", "lm51", "--detector", "dlib", "--out", out)
    assert result.exit_code == 0
    assert "3 of 5 images embedded by lm51" in result.stdout
    assert "no_face: " in result.stderr and "unreadable: " in result.stderr
    with np.load(out, allow_pickle=False) as found:
        assert set(found) == {"paths", "embeddings", "status", "reason"}
        images = sorted(folder.iterdir())
        assert found["paths"].tolist() == [*map(str, images), str(blank), str(tmp_path / "broken.jpg")]
        assert found["status"].tolist() == ["ok"] * 3 + ["no_face", "unreadable"]
        assert [bool(r) for r in found["reason"]] == [False] * 3 + [True] * 2
        vectors = found["embeddings"]
    assert vectors.shape == (5, 102) and vectors.dtype == np.float32
    assert np.isfinite(vectors[:3]).all() and np.isnan(vectors[3:]).all()

    from exprmetric import load_method, read_image
    from exprmetric.faces import FaceFinder, load_detector

    faces = [FaceFinder(load_detector("dlib")).find(read_image(p)) for p in images]
    np.testing.assert_allclose(vectors[:3], load_method("lm51").represent(faces), atol=1e-6)


def test_embed_takes_the_bundled_encoder_by_default(swaps: Path, tmp_path: Path):
    result = run("embed", swaps / "target", "--detector", "dlib", "--out", tmp_path / "faces.npz")
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "faces.npz", allow_pickle=False) as found:
        np.testing.assert_allclose(np.linalg.norm(found["embeddings"], axis=1), 1, atol=1e-5)


def test_embed_has_status_1_when_no_image_could_be_embedded(blank: Path, tmp_path: Path):
    result = run("embed", blank, "-m", "lm51", "--detector", "dlib", "--out", tmp_path / "faces.npz")
    assert result.exit_code == 1
    with np.load(tmp_path / "faces.npz", allow_pickle=False) as found:
        assert found["status"].tolist() == ["no_face"] and len(found["embeddings"]) == 1


def test_embed_refuses_what_it_cannot_read_or_write(swaps: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    out = ["-m", "lm51", "--detector", "dlib", "--out"]
    refused(run("embed", tmp_path / "absent.png", *out, tmp_path / "o.npz"), "absent.png")
    refused(run("embed", tmp_path / "empty", *out, tmp_path / "o.npz"), "no image")
    refused(run("embed", swaps, "-m", "lm1", "--out", tmp_path / "o.npz"), "lm1")
    refused(run("embed", swaps / "target", *out, tmp_path / "file" / "o.npz"), "can't write")
    assert not (tmp_path / "o.npz").exists()


# --- doctor, weights ---


def findings(result: Result) -> list[dict[str, str]]:
    found = json.loads(result.stdout)
    assert all(set(f) == {"level", "topic", "found", "advice"} for f in found)
    return found


def test_doctor_says_what_is_here(monkeypatch: pytest.MonkeyPatch):
    result = run("doctor", "--json")
    found = findings(result)
    assert result.exit_code == (1 if any(f["level"] == "problem" for f in found) else 0)
    by_topic = {f["topic"]: f for f in found}
    assert by_topic["python"]["found"] == ".".join(map(str, sys.version_info[:3]))
    assert by_topic["detector dlib"]["level"] == "ok" and "dlib" in by_topic["detector auto"]["found"]
    assert by_topic["detector scrfd"] | {"found": ""} == {
        "level": "note", "topic": "detector scrfd", "found": "", "advice": "exprmetric weights pull scrfd-500m"
    }  # fmt: skip
    assert "CPUExecutionProvider" in by_topic["providers"]["found"]
    plain = run("doctor").stdout
    for f in found:
        assert f"{f['topic']}: {f['found']}" in plain and f["advice"] in plain


@pytest.mark.parametrize(
    ("installed", "topic"),
    [
        (["onnxruntime", "onnxruntime-gpu"], "onnxruntime"),
        (["opencv-python", "opencv-python-headless"], "opencv"),
        (["dlib", "dlib-bin"], "dlib"),
    ],
)
def test_doctor_reports_packages_that_break_each_other(
    installed: list[str], topic: str, monkeypatch: pytest.MonkeyPatch
):
    from exprmetric import doctor

    monkeypatch.setattr(doctor, "package_version", lambda name: "1.0" if name in installed else "")
    result = run("doctor", "--json")
    problems = [f for f in findings(result) if f["level"] == "problem" and f["topic"] == topic]
    assert result.exit_code == 1 and len(problems) == 1
    for name in installed:
        assert name in problems[0]["found"] and name in problems[0]["advice"]
    monkeypatch.setattr(doctor, "package_version", lambda name: "1.0" if name == installed[0] else "")
    assert not [f for f in findings(run("doctor", "--json")) if f["level"] == "problem" and f["topic"] == topic]


def test_doctor_finishes_when_a_check_breaks(monkeypatch: pytest.MonkeyPatch):
    from exprmetric import doctor

    def broken():
        raise OSError("libGL.so.1")

    monkeypatch.setattr(doctor, "CHECKS", (broken, doctor._python))
    found = findings(run("doctor", "--json"))
    assert found[0]["level"] == "problem" and "libGL.so.1" in found[0]["found"]
    assert found[1]["topic"] == "python"


def test_doctor_names_a_weight_file_that_was_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from exprmetric.weights import store as weights

    (tmp_path / weights.entry("yunet").file).write_bytes(b"something else")
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(tmp_path))
    problem = next(f for f in findings(run("doctor", "--json")) if f["topic"] == "weights yunet")
    assert problem["level"] == "problem" and weights.entry("yunet").sha256 in problem["found"]


def test_weights_are_listed():
    from exprmetric.weights import store as weights

    listed = json.loads(run("weights", "list", "--json").stdout)
    assert [w["name"] for w in listed] == list(weights.entries())
    assert next(w for w in listed if w["name"] == "expression-2")["place"] == "bundled"
    table = run("weights", "list").stdout
    assert all(name in table for name in weights.entries())
    refused(run("weights", "path", "defualt"), "default")


# --- pairs → swaps → evaluate ---


def test_pairs_become_an_input_of_evaluate(swaps: Path, ids: list[str], tmp_path: Path):
    images = [swaps / role / f"{i}.png" for i in ids for role in ("target", "source")]
    labels = manifest(
        tmp_path / "labels.csv",
        [{"image": p, "label": "happy" if i < 3 else "neutral"} for i, p in enumerate(images)],
    )
    drawn = tmp_path / "pairs.csv"
    result = run("pairs", labels, "-n", 4, "--seed", 1, "--out", drawn)
    assert result.exit_code == 0 and "4 pairs, 2 with the same label" in result.stdout
    with drawn.open(newline="") as file:
        rows = list(csv.DictReader(file))
    swapped = manifest(tmp_path / "swapped.csv", [r | {"swapped": r["target"], "model": "unchanged"} for r in rows])
    result = run("evaluate", swapped, *FAST, "--format", "json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["coverage"]["ok"] == 4
    assert {k: v["coverage"]["triplets"] for k, v in summary["groups"].items()} == {
        "same_label": 2, "different_label": 2, "unchanged": 4
    }  # fmt: skip
    assert summary["methods"]["lm68"]["mean_t2c"]["value"] == 0


# --- train ---

needs_torch = pytest.mark.skipif(
    any(importlib.util.find_spec(n) is None for n in ("torch", "timm")), reason="needs torch and timm"
)


@needs_torch
@pytest.mark.torch
def test_train_prints_its_settings_with_changes():
    plain = json.loads(run("train", "wsupcon", "--print-config").stdout)
    changes = ["epochs=3", "learning_rate=0.01", "weighted=False", "backbone=resnet18", "affect=TRUE"]
    changed = json.loads(run("train", "wsupcon", "--print-config", *(f"--set={c}" for c in changes)).stdout)
    different = {k: v for k, v in changed.items() if v != plain[k]}
    assert different == {"epochs": 3, "learning_rate": 0.01, "weighted": False, "backbone": "resnet18"}
    assert plain["batch"] == 128 and changed["affect"] is True


@needs_torch
@pytest.mark.torch
@pytest.mark.parametrize("setting", ["epochs", "epoch=3", "epochs=3.5", "weighted=perhaps", "=3", "backbone=vgg"])
def test_train_refuses_settings_that_it_does_not_understand(setting: str):
    refused(run("train", "wsupcon", "--print-config", "--set", setting), setting.partition("=")[2] or setting)


@needs_torch
@pytest.mark.torch
def test_train_needs_data_and_a_known_recipe(tmp_path: Path):
    refused(run("train", "wsupcon"), "--data")
    refused(run("train", "simclr"), "simclr")
    refused(run("train", "wsupcon", "--data", tmp_path / "absent", "--out", tmp_path / "o"), "absent")
    refused(run("train", "wsupcon", "--data", tmp_path, "--out", tmp_path / "o"), str(tmp_path))


def test_train_and_export_say_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else real(name, *a))
    refused(run("train", "wsupcon", "--print-config"), "exprmetric[torch]")
    (tmp_path / "c.pt").write_bytes(b"")
    refused(run("export", tmp_path / "c.pt", tmp_path / "o.onnx"), "exprmetric[torch]")


@needs_torch
@pytest.mark.torch
def test_export_refuses_a_file_that_is_no_checkpoint(tmp_path: Path):
    (tmp_path / "c.pt").write_bytes(b"nothing")
    refused(run("export", tmp_path / "c.pt", tmp_path / "o.onnx"), "c.pt")
    refused(run("export", tmp_path / "absent.pt", tmp_path / "o.onnx"), "absent.pt")
    assert not (tmp_path / "o.onnx").exists()


# --- demo ---


@pytest.mark.slow
def test_the_demo_measures_its_own_swaps_with_nothing_downloaded(tmp_path: Path):
    out = tmp_path / "demo"
    result = run("demo", "--out", out)
    assert result.exit_code == 0, result.output
    assert "(100.0 %)" in result.stdout.splitlines()[0]
    assert all(method in result.stdout for method in ("default", "lm68", "lm51", "identity control"))
    summary = json.loads((out / "result" / "summary.json").read_text())
    names = sorted(p.stem for p in (out / "swaps" / "swapped").iterdir())
    assert summary["coverage"] == {"triplets": len(names), "ok": len(names), "failed": {}} and len(names) >= 6
    assert set(summary["methods"]) == {"default", "lm68", "lm51"}
    assert summary["identity"]["n"] == len(names)
    with (out / "result" / "triplets.csv").open(newline="") as file:
        assert [r["id"] for r in csv.DictReader(file)] == names
    with Image.open(out / "overview.png") as overview:
        overview.load()
        pixels = np.asarray(overview.convert("RGB"))
    assert (pixels != 255).any(axis=2).mean() > 0.8  # pictures, not white paper
    check_pages(EvaluationResult.load(out / "result"))


def check_pages(result: EvaluationResult) -> None:
    """README and the first evaluation show what the demo prints with the versions that they name; with other versions,
    numbers within the tolerance that they name."""
    text = demo_text.printed(result)
    stated = demo_text.VERSIONS.search(demo_text.FIRST.read_text(encoding="utf-8"))
    assert stated is not None
    whole, part = demo_text.shown(demo_text.FIRST), demo_text.shown(demo_text.README)
    alike = " ".join(stated[1].split()) == demo_text.versions(result)
    limit = 0.002 if alike else demo_text.WITH_OTHERS  # another processor may move the last digit
    for page, now in ((whole, text), (part, demo_text.excerpt(text))):
        shown, expected = demo_text.means(page), demo_text.means(now)
        assert len(shown) == len(expected) > 8
        assert max(abs(a - b) for a, b in zip(shown, expected, strict=True)) <= limit


def test_the_demo_refuses_a_folder_that_it_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    refused(run("demo", "--out", tmp_path / "file" / "demo"), "can't write")
