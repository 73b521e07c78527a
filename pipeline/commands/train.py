"""``hmar train``: the models of one run."""

from pipeline.commands.options import DataSettings, new_run, parse, plain
from pipeline.home import run_key


class TrainCommand(DataSettings):
    """Train the models on the snapshot of the published events. An interrupted training goes on with the same --run."""

    run: str = ""
    """Key of the run; a new one if empty."""
    model: str = ""
    """The one model to train, in place of models."""


def main(arguments: list[str]) -> int:
    command = parse(TrainCommand, arguments, "hmar train")
    if command is None:
        return 0
    from pipeline import preflight
    from pipeline.commands import screen, stages
    from pipeline.kept import keep, read_kept
    from pipeline.stages.suited import labelled
    from pipeline.stages.train import train

    s = plain(command)
    if command.model:
        s = s.model_copy(update={"models": (command.model,)})
    run = run_key(command.run) or new_run(s.name)
    preflight.check_models(s)
    preflight.check_device(s, s.models)
    preflight.check_mlflow(s)
    built = stages.built(s)
    labelled(s, built)
    if read_kept(s, run, built) is None:
        keep(s, run, built, whole=False)
    screen.console.print(f"run {run}", markup=False)
    for model in s.models:
        trained = train(s, built, model, run)
        screen.console.print(f"{model}: {trained.directory}", markup=False, soft_wrap=True)
    return 0
