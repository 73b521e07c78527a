"""``hmar promote``: register a run's best model and decide about it."""

from pipeline.commands.options import RunSettings, find_run, parse, plain


class PromoteCommand(RunSettings):
    """Register a run's best model, compare it with the champion on the same targets, promote it if it is better."""


def main(arguments: list[str]) -> int:
    command = parse(PromoteCommand, arguments, "hmar promote")
    if command is None:
        return 0
    from pipeline.commands import screen, stages
    from pipeline.stages.promote import promote
    from pipeline.stages.register import register

    s = plain(command)
    built, evaluated = stages.evaluated(s, find_run(s, command.run))
    screen.decision(promote(s, built, register(s, built, evaluated)))
    return 0
