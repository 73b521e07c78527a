"""Watching a run from the terminal: a line per change, the trainings' own progress lines, the outcome."""

import re
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hmar.errors import ServiceError
from pipeline.doubts import doubts, warn
from pipeline.home import Home, run_key
from pipeline.judged import Number
from pipeline.report.tables import on_screen
from pipeline.results import Evaluated, Promoted, Published, Recommended, Reported
from pipeline.services.client import AirflowClient

PATIENCE_SECONDS = 60
"""How long Airflow may be out of reach before watching ends; the run itself goes on."""

FINISHED = {"success", "failed"}

SHOWN_METRICS = ("ndcg@10", "hr@10", "mrr")


def follow(api: AirflowClient, dag_id: str, run_id: str, home: Home, console: Console, *, pause: float = 1.0) -> bool:
    """Print what happens until the run ends, then its results; True if it succeeded.

    Raises:
        ServiceError: Airflow has been out of reach for too long.
    """
    start = last_answer = time.monotonic()
    seen: dict[tuple[str, int], str] = {}
    models: list[str] = []
    logs = TrainingLogs(home.root / "trainings" / run_key(run_id))
    state = "queued"
    while True:
        try:
            state = api.run_state(dag_id, run_id)
            instances = api.task_instances(dag_id, run_id)
            models = models or api.result(dag_id, run_id, "models") or []
            last_answer = time.monotonic()
        except ServiceError:
            if time.monotonic() - last_answer > PATIENCE_SECONDS:
                raise
            instances = []
        elapsed = time.monotonic() - start
        for line in logs.new_lines():
            console.print(f"{elapsed:6.0f} s    {line}", style="dim", highlight=False, markup=False, soft_wrap=True)
        for instance in sorted(instances, key=lambda one: str(one.get("start_date") or "9")):
            key = (str(instance["task_id"]), int(instance["map_index"]))
            now = f"{instance['state'] or 'waiting'}/{instance['try_number']}"
            if seen.get(key) != now:
                seen[key] = now
                index = int(instance["map_index"])
                name = key[0] if index < 0 else f"{key[0]} {models[index] if index < len(models) else index}"
                _print_change(api, dag_id, run_id, instance, f"{elapsed:6.0f} s  {name:<20}", console)
        if state in FINISHED:
            break
        time.sleep(pause)
    style = "green" if state == "success" else "red"
    console.print(f"{time.monotonic() - start:6.0f} s  {dag_id} {run_id}: [{style}]{state}[/]", highlight=False)
    print_results(api, dag_id, run_id, console)
    return state == "success"


def print_results(api: AirflowClient, dag_id: str, run_id: str, console: Console) -> None:
    """Row accounts, a table of metrics, the decision and where the results lie, as far as the run came."""
    published = api.result(dag_id, run_id, "validate")
    if published:
        accounts = Published.model_validate(published).accounts
        console.print(
            f"{accounts.rows:,} rows = {accounts.events:,} events + {accounts.duplicates:,} duplicates"
            f" + {accounts.quarantined:,} quarantined",
            highlight=False,
        )
    evaluated = []
    for instance in api.task_instances(dag_id, run_id):
        if instance["task_id"] == "evaluate" and instance["state"] == "success":
            result = api.result(dag_id, run_id, "evaluate", int(instance["map_index"]))
            evaluated.append(Evaluated.model_validate(result))
    if evaluated:
        console.print(metrics_table(evaluated))
    promoted = api.result(dag_id, run_id, "promote")
    if promoted:
        decision = Promoted.model_validate(promoted)
        console.print(f"{decision.name}: champion is version {decision.champion}; {decision.reason}", highlight=False)
    users = None
    recommended = api.result(dag_id, run_id, "recommend")
    if recommended:
        written = Recommended.model_validate(recommended)
        console.print(f"recommendations for {written.users:,} users: {written.path}", highlight=False, soft_wrap=True)
        users = written.users
    warn(doubts(evaluated, SHOWN_METRICS[0], users), console)
    reported = api.result(dag_id, run_id, "report")
    if reported:
        console.print(f"report: {Reported.model_validate(reported).path}", highlight=False, soft_wrap=True)


def metrics_table(evaluated: list[Evaluated]) -> Table:
    """Models by their test metrics under full ranking, best first; the metric that orders them has its interval."""
    parts = [part for part in ("validation", "test") if any(part in one.metrics for one in evaluated)]
    columns = [(part, metric) for part in parts for metric in SHOWN_METRICS]
    table = Table("model", *(f"{part}\n{metric}" for part, metric in columns), box=None, title="full ranking")
    last = columns[len(SHOWN_METRICS) * (len(parts) - 1)] if columns else ("", "")
    for one in sorted(evaluated, key=lambda one: -one.metrics.get(last[0], {}).get(last[1], 0.0)):
        cells = []
        for part, metric in columns:
            value = one.metrics.get(part, {}).get(metric)
            bounds = one.intervals.get(part, {}).get(metric, (None, None))
            cells.append("" if value is None else on_screen(Number(value, *bounds), wide=(part, metric) == last))
        table.add_row(one.model, *cells)
    if any(last[1] in one.intervals.get(last[0], {}) for one in evaluated):
        table.caption = "ranges: bootstrap over users"
    return table


def _print_change(
    api: AirflowClient, dag_id: str, run_id: str, instance: dict[str, Any], head: str, console: Console
) -> None:
    state = instance["state"]
    if state in (None, "scheduled", "queued"):
        return
    style = {"success": "green", "failed": "red", "up_for_retry": "yellow", "running": "cyan"}.get(state, "dim")
    took = f"{instance['duration']:.1f} s" if state != "running" and instance.get("duration") else ""
    attempt = f"attempt {instance['try_number']}" if int(instance["try_number"]) > 1 else ""
    console.print(f"{head} [{style}]{state}[/] {took} {attempt}".rstrip(), highlight=False)
    if state in ("failed", "up_for_retry"):
        try:
            errors = api.errors(dag_id, run_id, instance)
        except ServiceError:
            errors = []
        for line in errors[-1:]:
            console.print(f"            {line}", style="red", highlight=False, markup=False, soft_wrap=True)


class TrainingLogs:
    """Reads on in every train.log of a run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.positions: dict[Path, int] = {}

    def new_lines(self) -> list[str]:
        """Whole lines written since the last call, each with its model's name."""
        lines = []
        for log in sorted(self.directory.glob("*/train.log")):
            with log.open("rb") as stream:
                stream.seek(self.positions.get(log, 0))
                text = stream.read()
            whole, _, _ = text.rpartition(b"\n")
            if whole:
                self.positions[log] = self.positions.get(log, 0) + len(whole) + 1
                lines += [f"{log.parent.name}: {_shorn(one)}" for one in whole.decode(errors="replace").splitlines()]
        return lines


def _shorn(line: str) -> str:
    """Without the log's own time and place: they stand before it already."""
    return re.sub(r"^[\d-]+ [\d:,]+ INFO [\w.]+: (\w+: )?", "", line)
