"""Weight files that are not what they claim: weights kept in other files, and networks that don't fit their entry."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from exprmetric_cli.main import main
from onnx import TensorProto, helper, numpy_helper
from test_onnx_encoder import build, describe, how

from exprmetric.errors import WeightsError
from exprmetric.methods import load_method
from exprmetric.methods.onnx import OnnxEncoder, check_fit
from exprmetric.weights import store as weights
from exprmetric.weights.manifest import WeightsEntry
from exprmetric.weights.onnx_file import check_alone


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("onnx") / "tiny.onnx")


def outside(model: Path, folder: Path) -> Path:
    """The same network with its weights in a second file."""
    onnx.save(
        onnx.load(str(model)),
        str(folder / "split.onnx"),
        save_as_external_data=True,
        location="split.data",
        size_threshold=0,
    )
    assert (folder / "split.data").is_file()
    return folder / "split.onnx"


def test_weights_in_other_files_are_refused_wherever_a_file_is_taken(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = outside(model, tmp_path)
    item = describe(split)
    with pytest.raises(WeightsError, match=r"'split\.data'.*refused"):
        OnnxEncoder(item, path=split)
    with pytest.raises(WeightsError, match=r"other files.*onnx\.save"):
        weights.add({**_document(item), "name": "mine"}, split, check_fit)
    assert "mine" not in weights.entries()
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="other files"):
        weights.find(item)
    monkeypatch.setattr(weights, "_shipped", lambda: {"tiny": item})
    done = CliRunner().invoke(main, ["weights", "verify"])
    assert done.exit_code == 1 and "WRONG" in done.stderr and "other files" in done.stderr


def test_a_tensor_in_another_file_is_found_wherever_it_hides(model: Path, tmp_path: Path) -> None:
    def hidden() -> TensorProto:
        tensor = numpy_helper.from_array(np.ones(2, np.float32), "hidden")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="elsewhere.bin")
        return tensor

    inner = helper.make_graph([helper.make_node("Constant", [], ["hidden"], value=hidden())], "inner", [], [])
    deep = helper.make_graph([helper.make_node("If", ["c"], ["x"], then_branch=inner, else_branch=inner)], "g", [], [])
    sparse = onnx.SparseTensorProto(values=hidden(), dims=[4])
    places = {
        "initializer": lambda m: m.graph.initializer.append(hidden()),
        "sparse": lambda m: m.graph.sparse_initializer.append(sparse),
        "constant": lambda m: m.graph.node.extend(inner.node),
        "inner graph": lambda m: m.graph.node.extend(deep.node),
        "function": lambda m: m.functions.append(
            helper.make_function("d", "f", [], ["hidden"], list(inner.node), [helper.make_opsetid("", 17)])
        ),
        "training": lambda m: m.training_info.append(onnx.TrainingInfoProto(algorithm=deep)),
    }
    for name, put in places.items():
        changed = onnx.load(str(model))
        put(changed)
        onnx.save(changed, str(tmp_path / "hidden.onnx"))
        with pytest.raises(WeightsError, match=r"elsewhere\.bin"):
            check_alone(tmp_path / "hidden.onnx")
            pytest.fail(name)
    check_alone(model)


def _document(item: WeightsEntry) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(item)))
    return plain


@pytest.fixture(scope="module")
def odd_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Networks of `input` (N, 3, 224, 224) whose `output` is no vector of a face."""
    folder = tmp_path_factory.mktemp("odd")

    def save(name: str, nodes: list[Any], shape: list[Any] | None = None) -> Path:
        given = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape or ["N", 3, 224, 224])
        made = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, name, [given], [made], [numpy_helper.from_array(np.float32(0), "zero")])
        network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        network.ir_version = 8
        onnx.save(network, str(folder / f"{name}.onnx"))
        return folder / f"{name}.onnx"

    def node(kind: str, *names: str, **how: Any) -> Any:
        return helper.make_node(kind, list(names[:-1]), [names[-1]], **how)

    mean = node("ReduceMean", "input", "mean", axes=[2, 3], keepdims=0)
    (folder / "junk.onnx").write_bytes(b"no network at all" * 100)
    return {
        "junk": folder / "junk.onnx",
        "infinite": save("infinite", [mean, node("Div", "mean", "zero", "output")]),
        "constant": save("constant", [mean, node("Mul", "mean", "zero", "output")]),
        "of the batch": save(
            "batch",
            [
                mean,
                node("ReduceMean", "mean", "all", axes=[0], keepdims=1),
                node("Sub", "mean", "all", "output"),
            ],
        ),
        "of one face at a time": save("single", [node("Identity", "mean", "output"), mean][::-1], [1, 3, 224, 224]),
        "of another size": save("size", [node("Identity", "mean", "output"), mean][::-1], ["N", 3, 112, 112]),
        "right": save("right", [node("Identity", "mean", "output"), mean][::-1]),
    }


@pytest.mark.parametrize(
    ("which", "changes", "told"),
    [
        ("junk", {}, "can't be read as ONNX"),
        ("infinite", {}, "not finite"),
        ("constant", {}, "two different pictures the same vector"),
        ("of the batch", {}, "other faces of its batch"),
        ("of one face at a time", {}, "can't be run"),
        ("of another size", {}, "can't be run"),
        ("right", {"dimension": 4}, "gives 3 numbers, its entry says 4"),
        ("right", {"output": "embedding"}, "no tensor 'embedding'"),
        ("right", {"output": "last-gemm-input"}, "no Gemm"),
        ("right", {"preprocessing": how(template="nowhere")}, "nowhere"),
        ("right", {"preprocessing": how(crop=400)}, "crops 400 px"),
    ],
)
def test_a_file_that_does_not_fit_its_entry_is_not_added(
    which: str, changes: dict[str, Any], told: str, odd_models: dict[str, Path], tmp_path: Path
) -> None:
    path = odd_models[which]
    document = _document(describe(path, **{"output": "output", "dimension": None, **changes}))
    (tmp_path / "entry.json").write_text(json.dumps(document))
    done = CliRunner().invoke(main, ["weights", "add", str(tmp_path / "entry.json"), str(path)])
    assert done.exit_code == 1 and told in done.stderr, done.output
    assert "tiny" not in weights.entries() and not list(weights.cache_dir().rglob("*.onnx"))


def test_a_file_that_fits_its_entry_is_added(odd_models: dict[str, Path]) -> None:
    item = describe(odd_models["right"], output="output", dimension=3)
    weights.add(_document(item), odd_models["right"], check_fit)
    assert load_method("tiny").dimension == 3


def test_an_encoder_that_can_not_be_opened_is_a_weights_error(odd_models: dict[str, Path], tmp_path: Path) -> None:
    network = onnx.load(str(odd_models["right"]))
    network.graph.node[0].op_type = "Unheard"
    onnx.save(network, str(tmp_path / "unheard.onnx"))
    with pytest.raises(WeightsError, match="ONNX Runtime can't open"):
        OnnxEncoder(describe(tmp_path / "unheard.onnx", output="output"), path=tmp_path / "unheard.onnx")
