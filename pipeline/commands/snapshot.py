"""``hmar snapshot``: published events to sequences, splits and candidates."""

from pipeline.commands.options import DataSettings, parse, plain


class SnapshotCommand(DataSettings):
    """Build the snapshot of the published events; one that is there already is reused."""


def main(arguments: list[str]) -> int:
    command = parse(SnapshotCommand, arguments, "hmar snapshot")
    if command is None:
        return 0
    from pipeline.commands import screen, stages

    built = stages.built(plain(command))
    screen.snapshot(built)
    screen.console.print(f"{'reused' if built.reused else 'built'}: {built.snapshot}", markup=False, soft_wrap=True)
    return 0
