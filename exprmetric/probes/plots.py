"""Pictures of expression spaces: maps (t-SNE, UMAP; paper 000, figure 3), confusion matrices (figure 2), nearest faces.

One panel an encoder, on the faces that all of them could measure.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exprmetric.datasets.samples import EXPRESSIONS
from exprmetric.errors import InputError, MissingPackageError
from exprmetric.io.files import write_files
from exprmetric.io.tables import printable
from exprmetric.metrics.resampling import Floats, Indices
from exprmetric.probes.classify import standardised
from exprmetric.probes.parts import Known, Part, Space
from exprmetric.probes.retrieve import askable, distance_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = dict(
    zip(
        EXPRESSIONS,
        ("#9a9a9a", "#e69f00", "#cc79a7", "#0072b2", "#d55e00", "#009e73", "#56b4e9", "#000000"),
        strict=True,
    )
)
"""Okabe and Ito 2008, told apart with every kind of colour vision."""
SAME, OTHER = "#0072b2", "#d55e00"
FEWEST = 10
"""Faces of a map."""
PERPLEXITY = 30
FOUND = 8
"""Nearest faces beside a query."""
NAMES = {"sklearn": "scikit-learn", "umap": "umap-learn", "matplotlib": "Matplotlib", "torch": "torch"}


def need(*modules: str) -> None:
    """MissingPackageError, with what to install, where a package of the extra is missing."""
    missing = [NAMES.get(m, m) for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        raise MissingPackageError(f"this plot needs {' and '.join(missing)}: pip install 'exprmetric[recipes]'")


def _tsne(vectors: Floats, seed: int) -> Floats:
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors), np.float64)


def _umap(vectors: Floats, seed: int) -> Floats:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a seed means one thread, as it says each time
        import umap  # type: ignore[import-not-found,import-untyped,unused-ignore]

        made = umap.UMAP(n_neighbors=min(15, len(vectors) - 1), random_state=seed, n_jobs=1).fit_transform(vectors)
    return np.asarray(made, np.float64)


MAPS: dict[str, tuple[Callable[[Floats, int], Floats], str, tuple[str, ...]]] = {
    "tsne": (_tsne, "t-SNE", ("sklearn", "matplotlib")),
    "umap": (_umap, "UMAP", ("umap", "matplotlib")),
}
"""By kind: (N, D) vectors and a seed → (N, 2); its name; the packages that it needs."""


def draw_map(kind: str, parts: Mapping[str, Part], path: Path, *, seed: int = 0) -> None:
    """Test faces of each encoder in two dimensions, coloured by expression; the rarest are drawn last, on top.

    Features are standardised, as for the linear probe.

    Raises:
        MissingPackageError; InputError: too few faces, or `path` can't be written.
    """
    reduce, title, packages = MAPS[kind]
    need(*packages)
    figure, axes = _panels(len(parts), 4.2, 4.0)
    for axis, (name, part) in zip(axes, parts.items(), strict=True):
        if len(part) < FEWEST:
            raise InputError(f"a map needs at least {FEWEST} faces that all encoders could measure, not {len(part)}")
        (vectors,) = standardised(part.vectors)
        if not vectors.any():
            raise InputError(f"{name} gives one vector for all faces: there is nothing to draw")
        _scatter(axis, reduce(vectors, seed), part.known.labels)
        axis.set_title(printable(name), fontsize=10)
    handles = {h.get_label(): h for a in axes for h in a.collections}
    shown = [e for e in EXPRESSIONS if e in handles]
    figure.legend(
        [handles[e] for e in shown], shown, loc="outside lower center", ncols=4, frameon=False, markerscale=2.5
    )
    figure.suptitle(f"{title} of {len(next(iter(parts.values())))} test faces", fontsize=11)
    _save(figure, path)


def _scatter(axis: Axes, points: Floats, labels: Indices) -> None:
    counts = np.bincount(labels, minlength=len(EXPRESSIONS))
    for code in np.argsort(-counts, kind="stable"):
        rows = labels == code
        if rows.any():
            name = EXPRESSIONS[code]
            x, y = points[rows].T
            axis.scatter(x, y, s=7, color=COLOURS[name], label=name, linewidths=0, alpha=0.75)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_aspect("equal", adjustable="datalim")


def draw_confusion(matrices: Mapping[str, npt.ArrayLike], path: Path, *, title: str) -> None:
    """Confusion matrices, each row (a true expression) divided by its faces; expressions without a face are left out.

    Args:
        matrices: by encoder, (8, 8) counts, with the truth in rows.

    Raises:
        MissingPackageError; InputError: `path` can't be written.
    """
    need("matplotlib")
    figure, axes = _panels(len(matrices), 5.0, 4.8)
    for axis, (name, counts) in zip(axes, matrices.items(), strict=True):
        matrix = np.asarray(counts, np.float64)
        kept = np.flatnonzero(matrix.sum(1))
        columns = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
        shares = 100 * matrix[kept][:, columns] / matrix[kept].sum(1, keepdims=True)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for (i, j), share in np.ndenumerate(shares):
            axis.text(
                j, i, f"{share:.0f}", ha="center", va="center", color="white" if share > 55 else "#222222", size=9
            )
        axis.set_xticks(range(len(columns)), [EXPRESSIONS[i] for i in columns], rotation=40, ha="right")
        axis.set_yticks(range(len(kept)), [f"{EXPRESSIONS[i]} ({matrix[i].sum():.0f})" for i in kept])
        axis.set_xlabel("predicted")
        axis.set_title(printable(name), fontsize=10)
    for axis in axes[:: _columns(len(matrices))]:
        axis.set_ylabel("true (faces)")
    figure.suptitle(title, fontsize=11)
    _save(figure, path)


def queries(known: Known, seed: int) -> list[int]:
    """One row of each expression that is there, drawn at random."""
    generator = np.random.default_rng(seed)
    return [int(generator.choice(np.flatnonzero(known.labels == code))) for code in np.unique(known.labels)]


def draw_nearest(
    spaces: Mapping[str, Space], pictures: npt.NDArray[np.uint8], asked: Sequence[int], path: Path
) -> None:
    """For each query a row an encoder: the face and its nearest test faces, of other people where people are known.

    Args:
        spaces: by encoder; `test` is what is asked and found.
        pictures: (N, S, S) luma of the test faces.
        asked: rows of the queries.

    Raises:
        MissingPackageError; InputError: `path` can't be written.
    """
    need("matplotlib")
    lines = [(row, name) for row in asked for name in spaces]
    figure, grid = _grid(len(lines), FOUND + 1, 1.05, 1.22)
    for axes, (row, name) in zip(grid, lines, strict=True):
        space = spaces[name]
        labels = space.test.known.labels
        far = distance_matrix(space.test.vectors[[row]], space.test.vectors, space.distance)[0]
        may = askable(space.test)[row]
        found = np.argsort(np.where(may, far, np.inf), kind="stable")[: min(FOUND, int(may.sum()))]
        for axis, i in zip(axes, [row, *found], strict=False):
            colour = "#222222" if i == row else SAME if labels[i] == labels[row] else OTHER
            axis.imshow(pictures[i], cmap="gray", vmin=0, vmax=255)
            axis.set_xlabel(EXPRESSIONS[labels[i]], fontsize=7, color=colour, labelpad=2)
            axis.spines[:].set(color=colour, linewidth=1 if i == row else 2.5, visible=True)
        for axis in axes[len(found) + 1 :]:
            axis.remove()
        axes[0].set_ylabel(printable(name), fontsize=8)
    grid[0][0].set_title("query", fontsize=9)
    grid[0][1].set_title("nearest", fontsize=9)
    _save(figure, path)


def _grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns + 0.3, height * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    return figure, axes.tolist()


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """One panel for each of `count`, in rows of at most four."""
    columns = _columns(count)
    figure, grid = _grid(math.ceil(count / columns), columns, width, height)
    axes = [axis for row in grid for axis in row]
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def _columns(count: int) -> int:
    return min(4, math.ceil(math.sqrt(count)))


def _save(figure: Figure, path: Path) -> None:
    write_files(path.parent, {path.name: lambda file: figure.savefig(file, format="png", dpi=130)})
