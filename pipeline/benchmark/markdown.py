"""A benchmark's numbers as Markdown and as CSV."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from hmar.evaluate.names import STRATA
from pipeline.benchmark.outcome import IMPRESSIONS, LISTS, METRIC, VARIED

_BY_KIND = ("repeat", "new")
"""Those cut the targets into two."""
_FEW = 30
"""Users of a stratum below which an interval over them says too little to call a row worse there."""
_FIRST = f"test/full/all/{METRIC}"


def markdown(result: Mapping[str, Any]) -> str:
    """The tables, the protocol above each."""
    a = result["about"]
    parts = [
        f"# {a['name']}",
        f"`{a['command']}` makes all of this again, given the same raw logs. "
        f"{a['trials']} trials of search per trainable row, dataset and split"
        + (
            " (the first is the preset), chosen"
            if a["trials"]
            else ": settings are the presets' and those below; chosen"
        )
        + " on validation targets like epochs and weights. "
        f"Mean ± standard deviation over seeds {', '.join(map(str, a['seeds']))}; {a['confidence']:.0%} bootstrap "
        f"intervals over users of the mean over seeds ({a['resamples']:,} resamples); gains are paired over users.",
        "Full ranking: all items that anyone had seen by then, less those a user has used up where items do not recur. "
        "Sampled: the target and stored uniform negatives. *repeat* and *new*: whether the target was in the history. "
        "Equal scores count against the model. *coverage*: share of the catalog in the lists of 10; *popularity*: mean "
        "percentile of their items. *epochs*: the best one of those trained, means over seeds; with a star where the "
        "limit ended a run, so that more might have helped it.",
        "Cost: processor seconds and peak memory of the whole training process; seconds of optimizer steps by the "
        "clock, with whatever else the machine did then; processor time of scoring with one thread, a history encoded "
        "once for all its candidates, the same requests for all rows, the median of several passes.",
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
    lines += ["", *_settings(a, o), "", *_quality(t, sampled)]
    for name, base in t["baselines"].items():
        which = name if name == base else f"{name} ({base})"
        lines += ["", f"Gains in NDCG@10 over {which} by stratum of targets:", "", *_by_stratum(t, name)]
        lines += _worse(t, name)
    users = max((row["impressions"]["users"] for row in t["rows"].values() if "impressions" in row), default=0)
    if users:
        lines += ["", f"Labelled impressions ({users:,} users have both labels):", "", *_shown(t)]
    lines += ["", "Cost:", "", *_cost(t)]
    if o["figures"]:
        lines += ["", *(f"![{alt}]({path})" for alt, path in o["figures"].items())]
    return "\n".join(lines)


def _settings(a: Mapping[str, Any], o: Mapping[str, Any]) -> list[str]:
    """What is set over the presets: of all rows, on this log, of a row."""
    common = {"all rows": a["train"], "this log": o["train"]}
    of_rows = {
        label: {**row.get("train", {}), **{f"config.{key}": value for key, value in row.get("config", {}).items()}}
        for label, row in a["rows"].items()
    }
    told = [f"{who} ({_pairs(values)})" for who, values in (common | of_rows).items() if values]
    return [f"Over the presets: {'; '.join(told)}."] if told else []


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {json.dumps(value) if isinstance(value, dict) else value}" for key, value in values.items()
    )


def _ordered(t: Mapping[str, Any], name: str) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted(t["rows"].items(), key=lambda entry: -entry[1]["mean"].get(name, float("-inf")))


def _quality(t: Mapping[str, Any], sampled: str) -> list[str]:
    gains = list(t["baselines"])
    strata = [name for name in _BY_KIND if t["targets"][name]]
    varied = any(VARIED in row["gain"] for row in t["rows"].values())
    head = ["row", "NDCG@10", "interval", *(f"gain over {name}" for name in gains)]
    head += ["gain over the row it varies"] if varied else []
    head += ["HR@10", "MRR", f"HR@10 of {sampled}", *(f"NDCG@10 {name}" for name in strata)]
    head += ["coverage", "popularity", "epochs"]
    lines = [_line(head), _line(["---"] * len(head))]
    for label, row in _ordered(t, _FIRST):
        of_strata = [f"{_spread(row, f'test/full/{s}/{METRIC}')} {_bounds(row['interval'].get(f'{METRIC} {s}'))}"
                     for s in strata]  # fmt: skip
        cells = [
            label + _reservations(row),
            _spread(row, _FIRST),
            _bounds(row["interval"].get(f"{METRIC} all")),
            *(_gain(row["gain"].get(name, {}).get("all"), label == t["baselines"][name]) for name in gains),
            *([_of_variation(row)] if varied else []),
            _spread(row, "test/full/all/hr@10"),
            _spread(row, "test/full/all/mrr"),
            _spread(row, "test/sampled/all/hr@10"),
            *of_strata,
            *(_spread(row, f"test/full/all/{metric}", 3) for metric in LISTS),
            _epochs(row),
        ]
        lines.append(_line(cells))
    return lines


def _by_stratum(t: Mapping[str, Any], name: str) -> list[str]:
    """A column per stratum that has targets."""
    strata = [stratum for stratum in STRATA[1:] if t["targets"][stratum]]
    head = ["row", *(f"{stratum.replace('_', ' ')} ({t['targets'][stratum]:,})" for stratum in strata)]
    lines = [_line(head), _line(["---"] * len(head))]
    for label, row in _ordered(t, _FIRST):
        if label != t["baselines"][name]:
            lines.append(_line([label, *(_gain(row["gain"][name].get(stratum), False) for stratum in strata)]))
    return lines


def _worse(t: Mapping[str, Any], name: str) -> list[str]:
    """Of the rows that are better than a baseline beyond doubt, the strata where they are worse beyond doubt."""
    found, many = [], [stratum for stratum, users in t["users"].items() if users >= _FEW]
    for label, row in _ordered(t, _FIRST):
        gain = row["gain"].get(name, {})
        if gain and (gain["all"]["low"] or 0) > 0:
            below = [stratum for stratum in many if (gain[stratum]["high"] or 0) < 0]
            found += [f"{label} ({', '.join(one.replace('_', ' ') for one in below)})"] if below else []
    what = f"Better than {name} and yet worse in a stratum of {_FEW} users or more"
    return ["", f"{what}: {'; '.join(found)}."] if found else []


def _reservations(row: Mapping[str, Any]) -> str:
    told = f" (only seed {', '.join(map(str, row['seeds']))})" if row["missing"] else ""
    return told + (f" (leaks: {', '.join(row['leaks'])})" if row["leaks"] else "")


def _of_variation(row: Mapping[str, Any]) -> str:
    gain = row["gain"].get(VARIED)
    return f"{_gain(gain['all'], False)} ({row['varies']})" if gain else ""


def _epochs(row: Mapping[str, Any]) -> str:
    if not row["epochs"]:
        return ""
    best = "" if row["best_epoch"] is None else f"{row['best_epoch']:.0f} of "
    return f"{best}{row['epochs']:.0f}" + ("*" if row["at_limit"] else "")


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
    head = ["row", "parameters", "processor, s", "steps by the clock, s", "ms per 1,000 candidates", "peak memory, MiB"]
    on_gpu = any(row["cost"].get("gpu_peak_mb") for row in t["rows"].values())
    head += ["GPU memory, MiB"] if on_gpu else []
    head += ["trials", "search, s"]
    lines = [_line(head), _line(["---"] * len(head))]
    for label, row in _ordered(t, _FIRST):
        cost, found = row["cost"], row["search"]
        cells = [
            label,
            f"{cost['parameters']:,.0f}",
            f"{cost['cpu_seconds']:,.1f}",
            f"{cost['train_seconds']:,.1f}",
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
            line |= {"seeds": len(row["seeds"]), "snapshot": o["snapshot"]}
            line |= {key: row[key] for key in ("epochs", "best_epoch", "at_limit")}
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


def _spread(row: Mapping[str, Any], name: str, digits: int = 4) -> str:
    if name not in row["mean"]:
        return ""
    sd = row["sd"].get(name)
    return f"{row['mean'][name]:.{digits}f}" + (f" ± {sd:.{digits}f}" if sd is not None else "")


def _bounds(told: Mapping[str, float | None] | None) -> str:
    return f"[{told['low']:.4f}, {told['high']:.4f}]" if told and told["low"] is not None else ""


def _gain(told: Mapping[str, float | None] | None, itself: bool) -> str:
    if itself:
        return "itself"
    if not told:
        return ""
    bounds = f" [{told['low']:+.4f}, {told['high']:+.4f}]" if told["low"] is not None else ""
    return f"{told['mean']:+.4f}{bounds}"
