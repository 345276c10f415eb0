"""nDCG, the measure of a ranking by graded relevance (Järvelin and Kekäläinen, 2002)."""

from collections.abc import Iterable, Sequence
from math import log2


def ndcg(ranked: Sequence[int], possible: Iterable[int], at: int = 10) -> float:
    """From 0 to 1: the discounted gain of the first `at` results, divided by that of the best order.

    `ranked` are the grades of the results in their order, `possible` those of all that could be found. A grade gains
    2^grade - 1; the result at rank r counts 1/log2(r + 1). It is 1 when nothing could be found.
    """
    best = _gain(sorted(possible, reverse=True)[:at])
    return _gain(ranked[:at]) / best if best else 1.0


def _gain(grades: Sequence[int]) -> float:
    return sum((2.0**grade - 1) / log2(rank + 1) for rank, grade in enumerate(grades, start=1))
