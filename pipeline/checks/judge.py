"""Great Expectations as this house runs it: a file project per dataset, a checkpoint per suite; quiet, offline."""

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.checks.check import Check, Verdict, expectations, verdicts

log = logging.getLogger("pipeline.checks")

Judge = Callable[[Path, str, str, Sequence[Check], Mapping[str, Any]], tuple[list[Verdict], Path]]
"""What :func:`judge` is, here or elsewhere."""


def judge(
    project: Path, name: str, subject: str, suite: Sequence[Check], measures: Mapping[str, Any]
) -> tuple[list[Verdict], Path]:
    """Run the checkpoint over the measures and render the Data Docs.

    Args:
        project: directory of the Great Expectations project; made if it is not there.
        name: of the suite. subject: what is judged, in words, for the pages.

    Returns:
        The verdicts in the suite's order, and the Data Docs' first page.
    """
    _quiet()
    try:
        results = _run(project, name, subject, suite, measures)
    except OSError:
        raise
    except Exception as error:
        # A killed run can leave half a YAML file in the project. It holds nothing that cannot be made again.
        log.warning("%s: made anew, the old project could not be used (%s)", project, error)
        shutil.rmtree(project / "gx", ignore_errors=True)
        results = _run(project, name, subject, suite, measures)
    return verdicts(suite, results, measures), first_page(project)


def first_page(project: Path) -> Path:
    """Where the Data Docs of a project begin."""
    return project / "gx" / "uncommitted" / "data_docs" / "local_site" / "index.html"


def _run(project: Path, name: str, subject: str, suite: Sequence[Check], measures: Mapping[str, Any]) -> list[Any]:
    import great_expectations as gx
    import pandas as pd

    project.mkdir(parents=True, exist_ok=True)
    context = gx.get_context(mode="file", project_root_dir=str(project))
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_or_update_pandas("measures")
    batch = source.add_dataframe_asset(subject).add_batch_definition_whole_dataframe("one row")
    expected = context.suites.add_or_update(gx.ExpectationSuite(name, expectations=expectations(suite)))
    definition = context.validation_definitions.add_or_update(
        gx.ValidationDefinition(name=name, data=batch, suite=expected)
    )
    checkpoint = context.checkpoints.add_or_update(
        gx.Checkpoint(
            name=name,
            validation_definitions=[definition],
            actions=[gx.checkpoint.UpdateDataDocsAction(name="data docs")],
            result_format="SUMMARY",
        )
    )
    outcome = checkpoint.run(batch_parameters={"dataframe": pd.DataFrame([dict(measures)])})
    (run,) = outcome.run_results.values()
    return list(run.results)


def _quiet() -> None:
    """No analytics, no progress bars, and warnings only in the log, also where Airflow has turned INFO on."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    for name in ("great_expectations", "py.warnings", "posthog", "backoff"):
        logging.getLogger(name).setLevel(logging.WARNING)
