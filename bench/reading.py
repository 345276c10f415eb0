"""Precision and recall of the reading of what people type; `python -m bench.reading` prints them without engines."""

from bench.search import AddRow
from tests.relevance.reading import PAIRS, letters_of, of_pairs, of_queries


def measure(row: AddRow) -> None:
    """The rows `reading-*`; the baseline of pairs compares the letters of both names."""
    if PAIRS.exists():
        met, plain = of_pairs(), of_pairs(letters_of)
        row("reading-pairs-precision", 100 * met.precision, "%", 100 * plain.precision)
        row("reading-pairs-recall", 100 * met.recall, "%", 100 * plain.recall)
    read = of_queries()
    row("reading-queries-precision", 100 * read.precision, "%", "no baseline")
    row("reading-queries-recall", 100 * read.recall, "%", "no baseline")


def _print(name: str, value: float, unit: str, baseline: float | str) -> None:
    beside = baseline if isinstance(baseline, str) else f"{baseline:.1f}"
    print(f"{name}: {value:.1f} {unit}, {beside}")  # noqa: T201


if __name__ == "__main__":
    measure(_print)
