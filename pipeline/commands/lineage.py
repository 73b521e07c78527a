"""``hmar lineage``: where every column comes from, as one HTML page."""

from pathlib import Path

from hmar.settings import LayeredSettings


class LineageCommand(LayeredSettings):
    """Write a page with the way of every column from raw log to snapshot, and with all statements of sql/."""

    source: str = ""
    """The raw format whose columns are shown, for example taobao or, for one's own log, table; all if empty."""
    out: Path = Path("lineage.html")
    """The file to write; an earlier one is replaced."""


def main(arguments: list[str]) -> int:
    command = LineageCommand.resolve(arguments=arguments, use_environment=False, program="hmar lineage")
    from pipeline.lineage.page import write_page
    from pipeline.lineage.wiring import sources

    write_page(command.out, (command.source,) if command.source else sources())
    print(command.out)
    return 0
