"""ONNX files, read from one file alone.

An ONNX file may keep its weights in other files beside it. No hash of the file covers those, so such files are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exprmetric.errors import WeightsError

_KEY = b"location"
"""How a tensor names the file that it lies in; where these bytes are not, there is no such tensor."""


def read_model(path: Path) -> Any:
    """The `onnx.ModelProto` of a file.

    Raises:
        WeightsError: it is no ONNX file, or it keeps weights in other files.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf and onnx raise whatever they run into
        raise WeightsError(f"{path} can't be read as ONNX: {' '.join(str(error).split())}") from error
    outside = sorted({_place(tensor) for tensor in _tensors(model) if _is_outside(tensor)})
    if outside:
        raise WeightsError(
            f"{path} keeps weights in other files ({', '.join(map(repr, outside[:3]))}), which its hash doesn't cover: "
            f"refused. Save it as one file: onnx.save(onnx.load({path.name!r}), 'one-file.onnx')"
        )
    return model


def check_alone(path: Path) -> None:
    """Raise WeightsError where an ONNX file keeps weights in other files; quick where it doesn't."""
    try:
        with path.open("rb") as file:
            found = _KEY in file.read()
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error}") from error
    if found:
        read_model(path)


def _is_outside(tensor: Any) -> bool:
    return bool(tensor.data_location == 1 or len(tensor.external_data))  # 1: TensorProto.EXTERNAL


def _place(tensor: Any) -> str:
    return next((str(entry.value) for entry in tensor.external_data if entry.key == "location"), "not named")


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor of a model, also those of inner graphs, attributes, functions and training steps."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)
    for step in model.training_info:
        yield from _of_graph(step.initialization)
        yield from _of_graph(step.algorithm)


def _of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _of_graph(graph)
