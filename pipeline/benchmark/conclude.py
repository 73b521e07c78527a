"""From finished cells to tables, figures and the MLflow experiment."""

from collections.abc import Mapping, Sequence
from typing import Any

from hmar.errors import DataError
from pipeline.benchmark import cells, figures, markdown, outcome
from pipeline.benchmark.settings import BenchmarkSettings
from pipeline.results import Built, Cell, Concluded, Measured, Prepared
from pipeline.stages import benchmark
from pipeline.storage.atomic import write_json, write_text


def conclude(b: BenchmarkSettings, command: str = "", why: Mapping[str, str] | None = None) -> Concluded:
    """Make the tables of all that is finished.

    Args:
        command: what makes them again, for the reader.
        why: what is known of runs that failed.

    Raises:
        DataError: runs are missing, unless ``partial``; or nothing is there. ServiceError: MLflow does not answer.
    """
    prepared = {name: benchmark.prepared(b, name) for name in b.datasets}
    wanted = cells.plan(b)
    found = [(cell, _measured(b, cell, prepared[cell.dataset])) for cell in wanted]
    made = [one for _, one in found if one is not None]
    missing = [cell for cell, one in found if one is None]
    if not made or (missing and not b.partial):
        first = missing[0]
        reason = f" ({next(iter(why.values()))})" if why else ""
        raise DataError(
            f"benchmark {b.name}: {len(missing)} of {len(wanted)} runs are missing{reason}, first {first.dataset}, "
            f"{first.split}, {first.row}, seed {first.seed}; the same command goes on"
            + ("" if not made else ", or give --partial")
        )
    tables = [
        _table(
            b, of, split, missing, [one for one in made if (one.cell.dataset, one.cell.split) == (of.dataset, split)]
        )
        for of in prepared.values()
        if of is not None
        for split in b.splits
        if any((one.cell.dataset, one.cell.split) == (of.dataset, split) for one in made)
    ]
    result = {
        "about": {
            "name": b.name,
            "command": command or f"hmar benchmark --name {b.name}",
            "seeds": list(b.seeds),
            "trials": b.trials,
            "tune": b.tune.model_dump(mode="json"),
            "confidence": b.confidence,
            "resamples": b.resamples,
            "rows": {label: row.model_dump(mode="json", exclude_defaults=True) for label, row in b.rows.items()},
            "train": b.train,
        },
        "missing": [one.model_dump(mode="json") for one in missing],
        "tables": tables,
    }
    _write(b, result)
    run = _log(b, result)
    return Concluded(markdown=b.table.with_name(b.table.name + ".md"), cells=len(made), missing=tuple(missing),
                     mlflow_run=run)  # fmt: skip


def _measured(b: BenchmarkSettings, cell: Cell, prepared: Prepared | None) -> Measured | None:
    return benchmark.measured(b, cell, prepared.built) if prepared is not None else None


def _table(
    b: BenchmarkSettings, prepared: Prepared, split: str, missing: Sequence[Cell], made: Sequence[Measured]
) -> dict[str, Any]:
    found = outcome.runs(b, made)
    table = outcome.table(b, prepared.built, split, found)
    for one in found:
        searched = benchmark.searched(b, one.cell, prepared.built)
        assert searched is not None
        other = b.rows[one.cell.row].tuned_as
        told = searched.model_dump(include={"trials", "epochs", "seconds"})
        nothing: dict[str, Any] = {"trials": 0, "epochs": 0, "seconds": 0.0}
        table["rows"][one.cell.row]["search"] = {
            **(nothing if other else told), "as": other, "settings": searched.settings
        }  # fmt: skip
    for label, row in table["rows"].items():
        here = (prepared.dataset, split, label)
        row["missing"] = [one.seed for one in missing if (one.dataset, one.split, one.row) == here]
    seconds = sum(one.content["cost"]["wall_seconds"] for one in found)
    seconds += sum(row["search"]["seconds"] for row in table["rows"].values())
    table["about"] = _about(b, prepared, split, found, seconds / 3600)
    return table


def _about(
    b: BenchmarkSettings, prepared: Prepared, split: str, found: Sequence[outcome.Run], hours: float
) -> dict[str, Any]:
    """What a number is worth nothing without."""
    from hmar.data.snapshot import Snapshot

    built: Built = prepared.built
    manifest = Snapshot(built.snapshot).manifest
    made = [one.content["made"] for one in found]
    name = f"{prepared.dataset}-{split}"
    return {
        "dataset": prepared.dataset,
        "split": split,
        "snapshot": built.id,
        "users": manifest.users,
        "items": manifest.items,
        "events": manifest.events,
        "behaviors": dict(manifest.behavior_counts),
        "target": manifest.target,
        "repeats": manifest.repeats,
        "candidates": manifest.candidates,
        "accounts": prepared.accounts.model_dump(mode="json"),
        "code": sorted({_code(one) for one in made}),
        "torch": sorted({str(one["torch"]) for one in made}),
        "device": sorted({_device(one) for one in made}),
        "train": b.datasets[prepared.dataset].train,
        "hours": hours,
        "figures": {
            f"NDCG@10 with intervals, {prepared.dataset}, {split}": f"{b.table.name}/{name}.png",
            f"Quality against cost, {prepared.dataset}, {split}": f"{b.table.name}/{name}-cost.png",
        },
    }


def _device(made: Mapping[str, Any]) -> str:
    count = int(made["threads"])
    machine = f" of {made['machine']}" if "machine" in made else ""
    return f"{made['device']}, {count} thread" + ("s" if count > 1 else "") + machine


def _code(made: Mapping[str, Any]) -> str:
    commit = str(made.get("mlflow.source.git.commit", ""))
    short = f" {commit[:10]}" + ("-dirty" if commit.endswith("-dirty") else "") if commit else ""
    return f"hmar {made['version']}{short}"


def _write(b: BenchmarkSettings, result: Mapping[str, Any]) -> None:
    from hmar.evaluate.plots import write

    for table in result["tables"]:
        name = f"{table['about']['dataset']}-{table['about']['split']}"
        write(figures.quality(table), b.table / f"{name}.png")
        write(figures.against_cost(table), b.table / f"{name}-cost.png")
    write_json(b.table.with_name(b.table.name + ".json"), result)
    write_text(b.table.with_name(b.table.name + ".csv"), markdown.comma_separated(result))
    write_text(b.table.with_name(b.table.name + ".md"), markdown.markdown(result))


def _log(b: BenchmarkSettings, result: Mapping[str, Any]) -> str:
    """The table's own run, beside those of the cells; its id."""
    from hmar.evaluate.names import tracked
    from hmar.tracking.run import Point, TrackedRun

    run = TrackedRun.open(
        b.mlflow_uri,
        experiment=b.experiment,
        artifacts="" if b.tracking_uri else str(b.paths.mlflow_artifacts),
        identity=f"benchmark {b.name}",
        name=f"table of {b.name}",
        tags={"hmar.benchmark": b.name, "hmar.kind": "table"},
    )
    points = []
    for table in result["tables"]:
        for label, row in table["rows"].items():
            where = f"{table['about']['dataset']}/{table['about']['split']}/{_word(label)}"
            points += [Point(f"{where}/{tracked(outcome.METRIC)}", row["mean"][f"test/full/all/{outcome.METRIC}"])]
    run.log_metrics(points)
    for suffix in (".md", ".csv", ".json"):
        run.log_file(b.table.with_name(b.table.name + suffix))
    for table in result["tables"]:
        for path in table["about"]["figures"].values():
            run.log_file(b.table.parent / path, b.table.name)
    run.finish("FINISHED")
    return run.run_id


def _word(label: str) -> str:
    """A label as part of a metric's name: MLflow takes letters, digits and a few signs."""
    return "".join(c if c.isalnum() or c in "-_. " else "_" for c in label)
