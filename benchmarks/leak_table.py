"""The price list as Markdown, CSV and a plot."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RULES = {"popularity": "Popularity", "recent": "Recent", "seen_first": "seen first"}
KINDS = {"sampled": "Among {candidates} negatives", "full": "Full ranking"}
METRICS = ("hr@10", "ndcg@10")
NUMBERS = (
    "targets", "mean", "sd", "low", "high", "shared", "price", "price_sd", "price_low", "price_high",
)  # fmt: skip


def markdown(result: Mapping[str, Any]) -> str:
    """All tables of one dataset, the protocol above them."""
    about, rows = result["about"], result["rows"]
    first = next(iter(rows.values()))
    seconds = sum(sum(row["seconds"]) for row in rows.values())
    order = {
        "file": "Equal times stand in the order of the file, in the last row in the neutral one. ",
        "neutral": "",
    }[about["ties"]]
    lines = [
        f"## {about['dataset']}: what the leaks of HMAR's published protocol are worth",
        "",
        f"{about['users']:,} users, {about['items']:,} items, {about['events']:,} events, target {about['target']}; "
        f"{first['values']['sampled/all/hr@10']['targets']:,} test targets, "
        f"{first['values']['sampled/repeat/hr@10']['targets']:,} of them in the history. {order}"
        f"HMAR, {about['epochs']} epochs, mean ± standard deviation over seeds "
        f"{', '.join(map(str, about['seeds']))}. Price: the published row less this one, what the leak added; paired "
        f"over users, {about['confidence']:.0%} bootstrap interval of the mean over seeds. Rules: HR@10 of the same "
        "targets among the same candidates; seen first: items of the history before all others, both by popularity.",
        "",
        f"Snapshot `{first['snapshot']}`, code {about['code_version']}, torch {about['torch']}, {about['machine']}, "
        f"{seconds / 60:.0f} min of training and judging in all. `{about['command']}`",
        "",
    ]
    for kind, title in KINDS.items():
        lines += [f"### {title.format(**about)}", "", *_kind(rows, kind), ""]
    lines += ["### Targets in the history, and new ones", "", *_strata(rows), ""]
    lines += ["### Rows", "", *_notes(rows)]
    return "\n".join(lines) + "\n"


def _kind(rows: Mapping[str, Any], kind: str) -> list[str]:
    head = ["taken back", "HR@10", "price", "NDCG@10", "price", *RULES.values()]
    lines = _head(head)
    for row in rows.values():
        cells = [row["label"]]
        for metric in METRICS:
            value = row["values"][f"{kind}/all/{metric}"]
            cells += [_spread(value), _price(value, row)]
        cells += [_number(row["rules"][rule][f"{kind}/all/hr@10"]) for rule in RULES]
        lines.append(_line(cells))
    return lines


def _strata(rows: Mapping[str, Any]) -> list[str]:
    """HR@10 by stratum under both kinds of candidates, with prices, and the rules under sampled ones."""
    lines = []
    for stratum, title in (("repeat", "in the history"), ("new", "new")):
        if not any(row["values"][f"sampled/{stratum}/hr@10"]["targets"] for row in rows.values()):
            lines += ["", f"No target is {title}."]
            continue
        lines += ["", *_head([f"targets {title}, taken back", "n", "sampled HR@10", "price", "full HR@10", "price",
                              *(f"{title} (sampled)" for title in RULES.values())])]  # fmt: skip
        for row in rows.values():
            sampled, full = (row["values"][f"{kind}/{stratum}/hr@10"] for kind in ("sampled", "full"))
            cells = [row["label"], f"{sampled['targets']:,}"]
            cells += [_spread(sampled), _price(sampled, row), _spread(full), _price(full, row)]
            cells += [_number(row["rules"][rule][f"sampled/{stratum}/hr@10"]) for rule in RULES]
            lines.append(_line(cells))
    return lines[1:]


def _notes(rows: Mapping[str, Any]) -> list[str]:
    lines = _head(["row", "targets", "shared with the first", "chosen epochs", "s per training", "leaks left"])
    for row in rows.values():
        value = row["values"]["sampled/all/hr@10"]
        per_training = f"{sum(row['seconds']) / len(row['seconds']):.0f}"
        epochs = ", ".join(map(str, row["best_epochs"]))
        left = ", ".join(row["leaks"]) or "none"
        lines.append(_line([row["label"], f"{value['targets']:,}", f"{value['shared']:,}", epochs, per_training, left]))
    return [*lines, "", *(f"- {row['label']}: {row['note']}." for row in rows.values() if row["note"])]


def _head(cells: list[str]) -> list[str]:
    return [_line(cells), "|" + "---|" * len(cells)]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _spread(value: Mapping[str, Any]) -> str:
    return _number(value["mean"]) + ("" if value["sd"] is None else f" ± {value['sd']:.3f}")


def _price(value: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    if value["price"] is None or row["label"] == "as published":
        return ""
    interval = "" if value["price_low"] is None else f" [{value['price_low']:+.3f}, {value['price_high']:+.3f}]"
    return f"{value['price']:+.3f}{interval}"


def beside(out: Path, result: Mapping[str, Any]) -> list[Path]:
    """Write OUT.csv, one line per row, candidates, stratum and metric, and OUT.png."""
    from hmar.evaluate import plots

    path = out.with_suffix(".csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["dataset", "row", "candidates", "stratum", "metric", *NUMBERS, *RULES])
        for name, row in result["rows"].items():
            for key, value in row["values"].items():
                rules = [row["rules"][rule][key] for rule in RULES]
                numbers = [value[number] for number in NUMBERS]
                cells = [f"{cell:.6f}" if isinstance(cell, float) else cell for cell in [*numbers, *rules]]
                writer.writerow([result["about"]["dataset"], name, *key.split("/"), *cells])
    return [path, plots.write(figure(result), out.with_suffix(".png"))]


def figure(result: Mapping[str, Any]) -> "Figure":
    """HR@10 of every row with its interval, and of the rules, sampled beside full."""
    from matplotlib.figure import Figure

    rows = list(result["rows"].values())
    drawn = Figure(figsize=(11, 1.5 + 0.45 * len(rows)), layout="constrained")
    panels = drawn.subplots(1, 2, sharey=True)
    places = range(len(rows))
    for axes, (kind, title) in zip(panels, KINDS.items(), strict=True):
        values = [row["values"][f"{kind}/all/hr@10"] for row in rows]
        mean = [value["mean"] for value in values]
        reach = [[max(value["mean"] - value["low"], 0) for value in values],
                 [max(value["high"] - value["mean"], 0) for value in values]]  # fmt: skip
        axes.axvline(mean[0], color="tab:blue", linewidth=0.8, linestyle=":")
        axes.errorbar(mean, places, xerr=reach, fmt="o", capsize=3, color="tab:blue", label="HMAR")
        for (rule, name), marker, color in zip(RULES.items(), "sD^", ("gray", "tab:orange", "tab:green"), strict=True):
            of_rule = [row["rules"][rule][f"{kind}/all/hr@10"] for row in rows]
            axes.plot(of_rule, places, marker, color=color, markersize=5, alpha=0.8, label=name)
        axes.set_title(title.format(**result["about"]))
        axes.set_xlabel("HR@10")
        axes.grid(alpha=0.3)
        axes.set_xlim(left=0)
    panels[0].set_yticks(list(places), [row["label"] for row in rows])
    panels[0].invert_yaxis()
    panels[1].legend(frameon=False, fontsize=8)
    drawn.suptitle(f"{result['about']['dataset']}: quirks of the published protocol, taken back")
    return drawn
