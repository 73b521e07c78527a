"""The tables of models: every number with its interval, every caption with its protocol."""

from dataclasses import dataclass

from pipeline.judged import Number, number
from pipeline.settings import RetrainSettings

MAIN_METRICS = ("hr@5", "hr@10", "hr@20", "ndcg@5", "ndcg@10", "ndcg@20", "mrr")
GROUP_STRATA = ("all", "repeat", "new", "cold_user", "cold_item")


@dataclass(frozen=True)
class Row:
    """One model of a table; ``best`` names the columns in which it is."""

    model: str
    cells: dict[str, Number | None]
    best: frozenset[str]


@dataclass(frozen=True)
class Table:
    """A table with everything that PROTOCOL demands of one in its caption."""

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def on_screen(found: Number | None, *, wide: bool) -> str:
    """A number in a terminal's table, in rich's markup; if ``wide``, its interval stands below, where it has one."""
    if found is None:
        return "-"
    if found.low is None or not wide:
        return f"{found.value:.4f}"
    return f"{found.value:.4f}\n[dim]{found.low:.4f}-{found.high:.4f}[/dim]"


def table(
    title: str,
    caption: str,
    metrics: dict[str, dict[str, float]],
    names: dict[str, str],
    described: dict[str, str] | None = None,
) -> Table:
    """One row per model; ``names`` maps a column to a metric's full name, the best of each is marked.

    ``described`` are further columns, of which no value is better than another (coverage, popularity).
    """
    names_of_all = names | (described or {})
    cells = {
        model: {column: number(values, name) for column, name in names_of_all.items()}
        for model, values in metrics.items()
    }
    best = {column: _highest([row[column] for row in cells.values()]) for column in names}
    rows = tuple(
        Row(model, row, frozenset(c for c in names if (cell := row[c]) is not None and cell.value == best[c]))
        for model, row in cells.items()
    )
    return Table(title, caption, tuple(names_of_all), rows)


def _highest(numbers: list[Number | None]) -> float | None:
    """None where nobody scored: zeros are not the best of anything."""
    return max((number.value for number in numbers if number is not None and number.value > 0), default=None)


def tables(s: RetrainSettings, metrics: dict[str, dict[str, float]], protocol: str) -> list[Table]:
    """The headline (test, full), the sampled protocol, and the validation numbers that chose the nominee."""
    whole = "every item that anyone had seen before the target's time"
    if not s.snapshot.repeats:
        whole += ", less what the user had consumed"
    sampled = f"the target and {s.snapshot.candidates} stored uniform negatives" + (
        " outside the user's history" if s.snapshot.unseen else ""
    )
    full = {metric: f"test/full/all/{metric}" for metric in MAIN_METRICS}
    lists = {"coverage@10": "test/full/all/coverage@10", "popularity@10": "test/full/all/popularity_percentile@10"}
    return [
        table("Test targets, full ranking", f"Candidates: {whole}. {protocol}", metrics, full, lists),
        table(
            "Test targets, sampled candidates",
            f"Candidates: {sampled}. {protocol}",
            metrics,
            {metric: f"test/sampled/all/{metric}" for metric in MAIN_METRICS},
        ),
        table(
            "Validation targets, full ranking",
            f"These chose epochs and the nominee; nothing is chosen on test targets. Candidates: {whole}. {protocol}",
            metrics,
            {metric: f"validation/full/all/{metric}" for metric in MAIN_METRICS},
        ),
    ]


def strata_table(s: RetrainSettings, metrics: dict[str, dict[str, float]], protocol: str) -> Table:
    """The promotion metric on the test targets by stratum."""
    names = {stratum: f"test/full/{stratum}/{s.promote.metric}" for stratum in GROUP_STRATA}
    caption = (
        "repeat: the target was in the history, under any behavior; new: it was not; cold_user: an empty history; "
        f"cold_item: no training event has the target. {protocol}"
    )
    return table(f"{s.promote.metric} by stratum, test targets, full ranking", caption, metrics, names)


def target_counts(metrics: dict[str, dict[str, float]]) -> dict[str, int]:
    """Test targets per stratum; all models were judged on the same ones."""
    first = next(iter(metrics.values()), {})
    return {stratum: int(first.get(f"test/full/{stratum}/targets", 0)) for stratum in GROUP_STRATA}
