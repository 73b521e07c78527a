"""``hmar recommend``: the champion's items for everybody, or for one user."""

from hmar.errors import DataError
from pipeline.commands.options import DataSettings, parse, plain


class RecommendCommand(DataSettings):
    """Write the champion's items for every user of the snapshot, unless that was done; show one user's."""

    user: str = ""
    """A user id of the log: print this user's items."""


def main(arguments: list[str]) -> int:
    command = parse(RecommendCommand, arguments, "hmar recommend")
    if command is None:
        return 0
    from pipeline.commands import screen, stages
    from pipeline.doubts import doubts, warn
    from pipeline.registry import Registry
    from pipeline.results import Promoted
    from pipeline.stages.recommend import recommend

    s = plain(command)
    built = stages.built(s)
    registry = Registry(s)
    champion = str(registry.champion().version)
    done = recommend(s, built, Promoted(name=registry.name, champion=champion, promoted=False, reason=""))
    if not command.user:
        screen.console.print(f"{done.rows:,} rows for {done.users:,} users: {done.path}", markup=False, soft_wrap=True)
        warn(doubts([], s.promote.metric, done.users), screen.console)
        return 0
    if not screen.recommendations(done.path, command.user):
        raise DataError(
            f"user {command.user!r} is not in snapshot {built.id} of {s.name}, or has nothing left to be recommended"
        )
    return 0
