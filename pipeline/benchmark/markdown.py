"""A benchmark's numbers as Markdown and as CSV."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from pipeline.benchmark.outcome import IMPRESSIONS, METRIC, STRATA

_FIRST = f"test/full/all/{METRIC}"


def markdown(result: Mapping[str, Any]) -> str:
    """The tables, the protocol above each."""
    a = result["about"]
    parts = [
        f"# {a['name']}",
        f"`{a['command']}` makes all of this again, given the same raw logs. "
        f"{a['trials']} trials of search per trainable row, dataset and split"
        + (" (the first is the preset), " if a["trials"] else ": every row has its preset's settings, ")
        + "chosen, like epochs and weights, on validation targets. "
        f"Mean ± standard deviation over seeds {', '.join(map(str, a['seeds']))}; {a['confidence']:.0%} bootstrap "
        f"intervals over users of the mean over seeds ({a['resamples']:,} resamples); gains are paired over users.",
        "Full ranking: all items that anyone had seen by then"
        ", less those the user has used up where items do not recur. Sampled: the target and stored uniform negatives. "
        "*repeat* and *new*: whether the target was in the history. Equal scores count against the model.",
        f"Cost: seconds of optimizer steps by the clock, up to {a['jobs']} trainings at a time; processor seconds and "
        "peak memory of the whole training process; processor time of scoring with one thread, a history encoded once "
        "for all its candidates, the same requests for all rows, the median of several passes.",
    ]
    if result["missing"]:
        parts.append(f"**Incomplete**: {len(result['missing'])} runs are missing: {_missing(result)}.")
    parts += [_section(a, table) for table in result["tables"]]
    return "\n\n".join(parts) + "\n"


def _missing(result: Mapping[str, Any]) -> str:
    """By dataset and split the rows, and their seeds; or all, where there is no table."""
    begun = {(table["about"]["dataset"], table["about"]["split"]) for table in result["tables"]}
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for one in result["missing"]:
        of_table = found.setdefault((one["dataset"], one["split"]), {})
        of_table.setdefault(one["row"], []).append(str(one["seed"]))
    told = {
        where: ", ".join(f"{row} (seed {', '.join(seeds)})" for row, seeds in rows.items()) if where in begun else "all"
        for where, rows in found.items()
    }
    return "; ".join(f"{dataset}, {split}: {rows}" for (dataset, split), rows in told.items())


def _section(a: Mapping[str, Any], t: Mapping[str, Any]) -> str:
    o = t["about"]
    sampled = f"{o['candidates'] + 1} candidates"
    mix = ", ".join(f"{name} {count:,}" for name, count in o["behaviors"].items())
    repeats = "items recur" if o["repeats"] else "items do not recur"
    lines = [
        f"## {o['dataset']}, {o['split']}, target {o['target']}",
        "",
        f"{o['users']:,} users, {o['items']:,} items, {o['events']:,} events ({mix}; {repeats}); "
        f"{t['targets']['all']:,} test targets of {t['users'].get('all', 0):,} users, {t['targets']['repeat']:,} of "
        f"them repeat. Snapshot `{o['snapshot']}`, code {', '.join(o['code'])}, torch {', '.join(o['torch'])}, "
        f"{', '.join(o['device'])}; {o['hours']:.2f} h of search, training and evaluation.",
    ]
    for name, label in t["baselines"].items():
        lines[-1] += f" {name[:1].upper()}{name[1:]}, chosen on validation: {label}."
    lines += ["", *_quality(t, sampled)]
    if t["baselines"] and all(t["targets"][name] for name in STRATA[1:]):
        lines += ["", "Gains in NDCG@10 by kind of target:", "", *_by_stratum(t)]
    if any("impressions" in row for row in t["rows"].values()):
        lines += ["", "Labelled impressions:", "", *_shown(t)]
    lines += ["", "Cost:", "", *_cost(t)]
    if o["figures"]:
        lines += ["", *(f"![{alt}]({path})" for alt, path in o["figures"].items())]
    return "\n".join(lines)


def _ordered(t: Mapping[str, Any], name: str) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted(t["rows"].items(), key=lambda entry: -entry[1]["mean"].get(name, float("-inf")))


def _quality(t: Mapping[str, Any], sampled: str) -> list[str]:
    gains = list(t["baselines"])
    strata = [name for name in STRATA[1:] if t["targets"][name]]
    head = ["row", "NDCG@10", "interval", *(f"gain over {name}" for name in gains), "HR@10", "MRR"]
    head += [f"HR@10 of {sampled}", *(f"NDCG@10 {name}" for name in strata), "epochs"]
    lines = [_line(head), _line(["---"] * len(head))]
    for label, row in _ordered(t, _FIRST):
        of_strata = [f"{_spread(row, f'test/full/{s}/{METRIC}')} {_bounds(row['interval'].get(f'{METRIC} {s}'))}"
                     for s in strata]  # fmt: skip
        cells = [
            label + _reservations(row),
            _spread(row, _FIRST),
            _bounds(row["interval"].get(f"{METRIC} all")),
            *(_gain(row["gain"].get(name, {}).get("all"), label == t["baselines"][name]) for name in gains),
            _spread(row, "test/full/all/hr@10"),
            _spread(row, "test/full/all/mrr"),
            _spread(row, "test/sampled/all/hr@10"),
            *of_strata,
            f"{row['epochs']:.0f}",
        ]
        lines.append(_line(cells))
    return lines


def _by_stratum(t: Mapping[str, Any]) -> list[str]:
    head = ["row", *(f"{stratum}, over {name}" for name in t["baselines"] for stratum in STRATA[1:])]
    lines = [_line(head), _line(["---"] * len(head))]
    for label, row in _ordered(t, _FIRST):
        told = [
            _gain(row["gain"].get(name, {}).get(stratum), label == base)
            for name, base in t["baselines"].items()
            for stratum in STRATA[1:]
        ]
        lines.append(_line([label, *told]))
    return lines


def _reservations(row: Mapping[str, Any]) -> str:
    told = f" (only seed {', '.join(map(str, row['seeds']))})" if row["missing"] else ""
    return told + (f" (leaks: {', '.join(row['leaks'])})" if row["leaks"] else "")


def _shown(t: Mapping[str, Any]) -> list[str]:
    gains = list(t["baselines"])
    head = ["row", "AUC", "GAUC", "interval", *(f"gain in GAUC over {name}" for name in gains), "MRR", "NDCG"]
    lines = [_line(head), _line(["---"] * len(head))]
    for label, row in _ordered(t, "test/impressions/all/auc"):
        if "impressions" not in row:
            continue
        of = row["impressions"]
        cells = [
            label,
            _spread(row, "test/impressions/all/auc"),
            _spread(row, "test/impressions/all/gauc"),
            _bounds(of["interval"].get("gauc")),
            *(_gain(of["gain"].get(name, {}).get("gauc"), label == t["baselines"][name]) for name in gains),
            _spread(row, "test/impressions/all/mrr"),
            _spread(row, "test/impressions/all/ndcg"),
        ]
        lines.append(_line(cells))
    return lines


def _cost(t: Mapping[str, Any]) -> list[str]:
    head = ["row", "parameters", "training, s", "processor, s", "ms per 1,000 candidates", "peak memory, MiB"]
    on_gpu = any(row["cost"].get("gpu_peak_mb") for row in t["rows"].values())
    head += ["GPU memory, MiB"] if on_gpu else []
    head += ["trials", "search, s"]
    lines = [_line(head), _line(["---"] * len(head))]
    for label, row in _ordered(t, _FIRST):
        cost, found = row["cost"], row["search"]
        cells = [
            label,
            f"{cost['parameters']:,.0f}",
            f"{cost['train_seconds']:,.1f}",
            f"{cost['cpu_seconds']:,.1f}",
            f"{cost['milliseconds_per_1000']:.3g}",
            f"{cost['peak_mb']:,.0f}" if cost["peak_mb"] else "",
            *([f"{cost['gpu_peak_mb'] or 0:,.0f}"] if on_gpu else []),
            f"as {found['as']}" if found["as"] else f"{found['trials']}",
            f"{found['seconds']:,.0f}",
        ]
        lines.append(_line(cells))
    return lines


def comma_separated(result: Mapping[str, Any]) -> str:
    """One line per dataset, split and row, with everything that the tables show and the gains by stratum."""
    lines: list[dict[str, Any]] = []
    for t in result["tables"]:
        for label, row in t["rows"].items():
            o = t["about"]
            line = {"dataset": o["dataset"], "split": o["split"], "row": label, "model": row["model"]}
            line |= {"seeds": len(row["seeds"]), "epochs": row["epochs"], "snapshot": o["snapshot"]}
            for name, mean in row["mean"].items():
                line |= {name: mean, f"{name} sd": row["sd"][name]}
            for name, told in row["interval"].items():
                line |= {f"{name} low": told["low"], f"{name} high": told["high"]}
            for base, by_stratum in row["gain"].items():
                line |= _flat(f"gain over {base}", by_stratum)
            for metric in IMPRESSIONS:
                told = row.get("impressions", {}).get("interval", {}).get(metric)
                line |= {f"impressions {metric} {end}": told[end] for end in ("low", "high")} if told else {}
            for base, by_metric in row.get("impressions", {}).get("gain", {}).items():
                line |= _flat(f"impressions gain over {base}", by_metric)
            line |= row["cost"] | {f"search {key}": value for key, value in row["search"].items() if key != "settings"}
            lines.append(line)
    columns = list(dict.fromkeys(key for line in lines for key in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _flat(what: str, told: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    return {f"{what} {name} {end}": values[end] for name, values in told.items() for end in ("mean", "low", "high")}


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _spread(row: Mapping[str, Any], name: str) -> str:
    if name not in row["mean"]:
        return ""
    sd = row["sd"].get(name)
    return f"{row['mean'][name]:.4f}" + (f" ± {sd:.4f}" if sd is not None else "")


def _bounds(told: Mapping[str, float | None] | None) -> str:
    return f"[{told['low']:.4f}, {told['high']:.4f}]" if told and told["low"] is not None else ""


def _gain(told: Mapping[str, float | None] | None, itself: bool) -> str:
    if itself:
        return "itself"
    if not told:
        return ""
    bounds = f" [{told['low']:+.4f}, {told['high']:+.4f}]" if told["low"] is not None else ""
    return f"{told['mean']:+.4f}{bounds}"
