"""Retrieval: at which place of a ranked gallery the right one stands, by cosine similarity, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.integer]

QUERIES, GALLERY = 512, 4096
"""Rows of a tile of similarities, and its columns: 16 MB in float64."""
EQUAL = 1e-9
"""Similarities that differ by less are a tie: the rounding of a sum may not decide a place."""
FARTHEST = -2.0
"""Similarity of a vector of zeros, which has no direction, to any: below that of opposites."""
ABSENT = 0
"""The rank of a query whose label no vector of the gallery has."""
TIES = ("against", "for")


def retrieval_ranks(
    queries: npt.ArrayLike,
    gallery: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    gallery_labels: npt.ArrayLike,
    *,
    excluded: npt.ArrayLike | None = None,
    ties: str = "against",
) -> npt.NDArray[np.int64]:
    """Ranks of the right answers: 1 + how many vectors of others are nearer to the query than the nearest right one.

    Memory does not grow with N times M: similarities are taken in tiles, twice. Arrays may be memory maps.

    Args:
        queries: (N, D) vectors of any length.
        gallery: (M, D).
        query_labels: (N,) whole numbers: who is to be found.
        gallery_labels: (M,) whole numbers: who each vector is of.
        excluded: (N,) the place in the gallery of one vector that is not looked at for this query, such as the very
            photograph that was changed; -1 for none. None: all are looked at.
        ties: whether vectors of others that are just as near count `against` (a find must be nearer than all others) or
            `for` (no privacy is claimed because of a tie).

    Returns:
        (N,) int64, from 1; 0 (`ABSENT`) where the gallery holds nobody of the query's label, but for the excluded.
        A vector of zeros has no direction: nothing is farther from anything.

    Raises:
        ValueError: shapes that don't fit, numbers that are not finite, an unknown `ties`.
    """
    wanted, found = np.asarray(queries), np.asarray(gallery)
    of_query, of_gallery = np.asarray(query_labels), np.asarray(gallery_labels)
    left_out = np.full(len(wanted), -1) if excluded is None else np.asarray(excluded)
    if wanted.ndim != 2 or found.ndim != 2 or wanted.shape[1] != found.shape[1]:
        raise ValueError(f"retrieval needs (N, D) and (M, D) vectors, got {wanted.shape} and {found.shape}")
    if of_query.shape != (len(wanted),) or of_gallery.shape != (len(found),) or left_out.shape != (len(wanted),):
        raise ValueError("retrieval needs one label for each vector, and one excluded place for each query")
    if ties not in TIES:
        raise ValueError(f"unknown ties {ties!r}; known: {', '.join(TIES)}")
    slack = -EQUAL if ties == "against" else EQUAL
    ranks = np.empty(len(wanted), np.int64)
    for start in range(0, len(wanted), QUERIES):
        part = slice(start, start + QUERIES)
        best = np.full(len(wanted[part]), -np.inf)
        for right, similar in _tiles(wanted, found, of_query, of_gallery, left_out, part):
            best = np.maximum(best, np.where(right, similar, -np.inf).max(1, initial=-np.inf))
        before = np.zeros(len(best), np.int64)
        for right, similar in _tiles(wanted, found, of_query, of_gallery, left_out, part):
            before += ((similar > (best + slack)[:, None]) & ~right).sum(1)
        ranks[part] = np.where(np.isfinite(best), 1 + before, ABSENT)
    return ranks


def retrieval_scores(ranks: npt.ArrayLike) -> dict[str, Floats]:
    """What each query adds to `rank1`, `rank5` and `mrr` (the mean reciprocal rank); a score is the mean of its column.

    Args:
        ranks: (N,) from `retrieval_ranks`, none of them `ABSENT`.

    Returns:
        (N,) float64 columns, 0..1.
    """
    places = np.asarray(ranks, np.float64)
    if (places < 1).any():
        raise ValueError("a rank below 1 is of a query that the gallery has no answer to: leave it out")
    return {
        "rank1": (places <= 1).astype(np.float64),
        "rank5": (places <= 5).astype(np.float64),
        "mrr": 1.0 / places,
    }


def _tiles(
    queries: npt.NDArray[np.floating],
    gallery: npt.NDArray[np.floating],
    of_query: Labels,
    of_gallery: Labels,
    left_out: Labels,
    part: slice,
) -> Iterator[tuple[npt.NDArray[np.bool_], Floats]]:
    """Of some queries, by columns of the gallery: which are right, and similarities; -inf for those left out."""
    rows, blank = _directions(queries[part])
    for start in range(0, len(gallery), GALLERY):
        columns = slice(start, start + GALLERY)
        others, empty = _directions(gallery[columns])
        similar = rows @ others.T
        similar[blank] = similar[:, empty] = FARTHEST
        at = left_out[part] - start
        inside = np.flatnonzero((at >= 0) & (at < similar.shape[1]) & (left_out[part] >= 0))
        similar[inside, at[inside]] = -np.inf
        yield of_query[part][:, None] == of_gallery[columns][None], similar


def _directions(vectors: npt.NDArray[np.floating]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """(N, D) unit vectors, and which have no direction."""
    values = np.asarray(vectors, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("retrieval needs finite vectors")
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, norms, out=np.zeros_like(values), where=norms > 0), norms[:, 0] == 0
