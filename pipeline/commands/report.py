"""``hmar report``: a run as one HTML page."""

from pipeline.commands.options import RunSettings, find_run, parse, plain


class ReportCommand(RunSettings):
    """Write the HTML report of a run that has been judged and decided about, under the settings that the run had."""


def main(arguments: list[str]) -> int:
    command = parse(ReportCommand, arguments, "hmar report")
    if command is None:
        return 0
    from pipeline.commands import screen, stages
    from pipeline.kept import settings_of_run
    from pipeline.stages.promote import recorded
    from pipeline.stages.register import nominee
    from pipeline.stages.report import report

    s = plain(command)
    run = find_run(s, command.run)
    s = settings_of_run(s, run, stages.trained(s, run)[0])
    built, evaluated = stages.evaluated(s, run)
    promoted = recorded(s, nominee(evaluated, s.promote.metric, s.models).mlflow_run)
    screen.console.print(report(s, run, built, evaluated, promoted).path, markup=False, soft_wrap=True)
    return 0
