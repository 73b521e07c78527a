"""``hmar snapshot``: published events to sequences, splits and candidates."""

from pipeline.commands.options import DataSettings, parse, plain


class SnapshotCommand(DataSettings):
    """Build the snapshot of the published events; one that is there already is reused."""


def main(arguments: list[str]) -> int:
    command = parse(SnapshotCommand, arguments, "hmar snapshot")
    if command is None:
        return 0
    from pipeline.checks.page import SNAPSHOT_PAGE
    from pipeline.commands import screen, stages

    s = plain(command)
    built = stages.built(s)
    screen.snapshot(built)
    screen.console.print(f"{'reused' if built.reused else 'built'}: {built.snapshot}", markup=False, soft_wrap=True)
    page = s.paths.data_docs(s.name) / SNAPSHOT_PAGE
    screen.console.print(f"inspected: {page}", markup=False, soft_wrap=True)
    return 0
