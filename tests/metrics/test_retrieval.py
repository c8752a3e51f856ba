"""Retrieval: ranks in a gallery, in tiles, against a ranking of all similarities at once."""

import numpy as np
import numpy.typing as npt
import pytest

from exprmetric.metrics import retrieval
from exprmetric.metrics.retrieval import ABSENT, retrieval_ranks, retrieval_scores


def ranked_at_once(
    queries: npt.NDArray[np.float64],
    gallery: npt.NDArray[np.float64],
    of_query: npt.NDArray[np.int64],
    of_gallery: npt.NDArray[np.int64],
    excluded: npt.NDArray[np.int64] | None = None,
) -> list[int]:
    """The place of the first right answer in a sorted list; 0 where there is none."""
    ranks = []
    for i, query in enumerate(queries):
        similar = gallery @ query / np.linalg.norm(gallery, axis=1) / np.linalg.norm(query)
        order = [j for j in np.argsort(-similar) if excluded is None or j != excluded[i]]
        right = [place for place, j in enumerate(order, 1) if of_gallery[j] == of_query[i]]
        ranks.append(right[0] if right else 0)
    return ranks


def test_ranks_are_those_of_a_sorted_list_whatever_the_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    queries, gallery = random.normal(size=(57, 8)), random.normal(size=(91, 8))
    of_query, of_gallery = random.integers(0, 30, 57), random.integers(0, 25, 91)
    excluded = random.integers(-1, 91, 57)
    expected = ranked_at_once(queries, gallery, of_query, of_gallery)
    without = ranked_at_once(queries, gallery, of_query, of_gallery, excluded)
    assert 0 in expected and 1 in expected and max(expected) > 5 and without != expected
    for rows, columns in ((512, 4096), (7, 10), (1, 1)):
        monkeypatch.setattr(retrieval, "QUERIES", rows)
        monkeypatch.setattr(retrieval, "GALLERY", columns)
        assert retrieval_ranks(queries, gallery, of_query, of_gallery).tolist() == expected
        assert retrieval_ranks(queries, gallery, of_query, of_gallery, excluded=excluded).tolist() == without
        assert (retrieval_ranks(3 * queries, gallery / 7, of_query, of_gallery) == expected).all()


def test_an_encoder_that_sees_no_difference_finds_nobody_and_hides_nobody() -> None:
    same = np.ones((6, 4))
    people = np.arange(6)
    assert (retrieval_ranks(same, same, people, people) == 6).all()
    assert (retrieval_ranks(same, same, people, people, ties="for") == 1).all()


def test_the_same_vector_twice_is_a_tie_although_sums_are_rounded() -> None:
    random = np.random.default_rng(1)
    people = random.normal(size=(300, 128)).astype(np.float32)
    doubled = np.concatenate([people, people])
    ranks = retrieval_ranks(people, doubled, np.arange(300), np.arange(600))
    assert (ranks == 2).all()
    assert (retrieval_ranks(people, doubled, np.arange(300), np.arange(600) % 300) == 1).all()


def test_a_vector_of_zeros_is_farther_from_anything_than_its_opposite() -> None:
    gallery = np.array([[0.0, 0.0], [-1.0, 0.0]])
    ranks = retrieval_ranks([[1.0, 0.0], [0.0, 0.0]], gallery, [0, 1], [0, 1])
    assert ranks.tolist() == [2, 2]


def test_whoever_is_not_in_the_gallery_has_no_rank_and_no_score() -> None:
    ranks = retrieval_ranks([[1.0, 0.0]], [[1.0, 0.0]], [7], [7], excluded=[0])
    assert ranks.tolist() == [ABSENT]
    with pytest.raises(ValueError, match="leave it out"):
        retrieval_scores(ranks)
    assert retrieval_ranks(np.ones((2, 3)), np.ones((0, 3)), [0, 1], np.empty(0, int)).tolist() == [ABSENT, ABSENT]


def test_scores_count_first_places_first_fives_and_reciprocals() -> None:
    scores = retrieval_scores([1, 2, 5, 6])
    assert scores["rank1"].mean() == 0.25
    assert scores["rank5"].mean() == 0.75
    assert scores["mrr"].mean() == pytest.approx((1 + 1 / 2 + 1 / 5 + 1 / 6) / 4)


@pytest.mark.parametrize(
    ("queries", "labels", "ties"),
    [(np.full((2, 3), np.nan), [0, 1], "against"), (np.ones((2, 4)), [0, 1], "against"), (np.ones((2, 3)), [0], "for")],
)
def test_what_cannot_be_ranked_is_refused(queries: npt.NDArray[np.float64], labels: list[int], ties: str) -> None:
    with pytest.raises(ValueError, match="retrieval needs"):
        retrieval_ranks(queries, np.ones((2, 3)), labels, [0, 1], ties=ties)
