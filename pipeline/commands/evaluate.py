"""``hmar evaluate``: judge what a run has trained."""

from pipeline.commands.options import RunSettings, find_run, parse, plain


class EvaluateCommand(RunSettings):
    """Judge the trained models of a run on the validation and test targets. Finished work is not repeated."""


def main(arguments: list[str]) -> int:
    command = parse(EvaluateCommand, arguments, "hmar evaluate")
    if command is None:
        return 0
    from pipeline.commands import screen, stages
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.register import nominee

    s = plain(command)
    built, trained = stages.trained(s, find_run(s, command.run))
    judged = [evaluate(s, built, one) for one in trained]
    screen.models(s, built, judged, nominee(judged, s.promote.metric, s.models).model)
    return 0
