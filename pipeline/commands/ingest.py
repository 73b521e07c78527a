"""``hmar ingest``: land, validate, publish."""

from typing import TYPE_CHECKING

from pipeline.commands.options import parse, plain
from pipeline.settings import RetrainSettings

if TYPE_CHECKING:
    from pipeline.checks.judge import Judge


class IngestCommand(RetrainSettings):
    """Read a raw log, account for every row, validate the events and publish them. The same input changes nothing."""


def main(arguments: list[str]) -> int:
    command = parse(IngestCommand, arguments, "hmar ingest")
    if command is None:
        return 0
    from pipeline.checks.beside import Beside

    # Before all else: it takes longer to get ready than the reading of a log of millions of rows.
    with Beside() as judge:
        return _ingest(plain(command), judge.judge)


def _ingest(s: RetrainSettings, judged_by: "Judge") -> int:
    from pipeline import preflight
    from pipeline.commands import screen
    from pipeline.ingest.raw_path import given
    from pipeline.stages.ingest import land
    from pipeline.stages.validate import validate

    preflight.check_raw(given(s))
    preflight.check_home(s)
    published = validate(s, land(s), judged_by)
    screen.accounts(published.accounts)
    state = "published" if published.changed else "unchanged"
    screen.console.print(f"{state}: {published.events}", markup=False, soft_wrap=True)
    if published.data_docs is not None:
        screen.console.print(f"data docs: {published.data_docs}", markup=False, soft_wrap=True)
    return 0
