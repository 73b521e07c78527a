"""Whether the new version takes the champion's place, decided on the same targets, and why it did or did not."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hmar.errors import DataError
from pipeline.judged import per_target
from pipeline.registry import CHALLENGER, CHAMPION, Registry, own_tags
from pipeline.results import Built, Promoted, Registered
from pipeline.settings import PromoteSettings, RetrainSettings
from pipeline.storage.lock import dataset_lock

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from hmar.evaluate.compare import Comparison


@dataclass(frozen=True)
class Decision:
    """What was decided about one version; ``numbers`` go to its tags as they are."""

    promoted: bool
    reason: str
    compared_with: str = ""
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    numbers: dict[str, str] = field(default_factory=dict)
    refused: bool = False
    """Whether it was not even compared, and gets no alias: it was trained or judged with leaks (:mod:`hmar.leaks`)."""

    def tags(self, s: RetrainSettings, built: Built) -> dict[str, str]:
        interval = {"gain": self.gain, "low": self.low, "high": self.high}
        return {
            "decision": "promoted" if self.promoted else "refused" if self.refused else "kept out",
            "reason": self.reason,
            "compared_with": self.compared_with,
            "compared_on": f"{built.id} {s.split} test",
            "metric": s.promote.metric,
            "min_gain": str(s.promote.min_gain),
            **{key: repr(value) for key, value in interval.items() if value is not None},
            **self.numbers,
            "decided_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        }

    @classmethod
    def of_tags(cls, tags: dict[str, str]) -> "Decision | None":
        """The decision that an earlier call wrote down."""
        if "decision" not in tags:
            return None
        gain, low, high = (float(tags[key]) if key in tags else None for key in ("gain", "low", "high"))
        compared_with, told = tags.get("compared_with", ""), tags["decision"]
        reason = tags.get("reason", "")
        return cls(told == "promoted", reason, compared_with, gain, low, high, refused=told == "refused")


def rule(settings: PromoteSettings, comparison: "Comparison", champion: str) -> Decision:
    """The promotion rule: the lower end of the paired interval of (challenger - champion) is above ``min_gain``."""
    gain, low, high = comparison.gain, comparison.low, comparison.high
    share = f"{settings.confidence:.0%} interval [{low:+.4f}, {high:+.4f}], {comparison.users:,} users"
    told = f"{settings.metric} {comparison.mean_b:.4f} against {comparison.mean_a:.4f}: gain {gain:+.4f}, {share}"
    numbers = {
        "users": str(comparison.users),
        "champion_value": repr(comparison.mean_a),
        "challenger_value": repr(comparison.mean_b),
        "confidence": str(settings.confidence),
    }
    if math.isnan(low):
        reason = f"{told}; fewer than two users, so nothing can be said"
        return Decision(False, reason, champion, gain, numbers=numbers)
    promoted = low > settings.min_gain
    verb = "is above" if promoted else "is not above"
    return Decision(promoted, f"{told}; its lower end {verb} {settings.min_gain:g}", champion, gain, low, high, numbers)


def promote(s: RetrainSettings, built: Built, registered: Registered) -> Promoted:
    """Decide about the registered version. Called again, also after a crash in the middle, it ends the same.

    The decision is written to the version's tags before any alias moves, and ``applied`` after: a retry carries out
    what was decided, and a decision that was carried out is not taken up again.

    Raises:
        BusyError: another run decides about this dataset now. ServiceError: MLflow does not answer.
        HmarError: what judging the champion on this snapshot ended with.
    """
    with dataset_lock(s.paths.lock(f"{s.name}.registry"), f"promotion of version {registered.version}"):
        registry = Registry(s)
        version = registry.version(registered.version)
        champion = registry.by_alias(CHAMPION)
        tags = own_tags(version)
        decision = Decision.of_tags(tags)
        holder = str(champion.version) if champion else ""
        if decision is not None and tags.get("applied") == "true":
            return _promoted(registered.name, holder, decision)
        if decision is None or holder not in (decision.compared_with, registered.version):
            decision = _decide(s, built, registered, registry, champion)
            registry.tag(registered.version, decision.tags(s, built))
        _apply(registry, registered.version, holder, decision)
        return _promoted(registered.name, registered.version if decision.promoted else holder, decision)


def recorded(s: RetrainSettings, mlflow_run: str) -> Promoted:
    """What was decided about the version made from an MLflow run.

    Raises:
        DataError: nothing was decided about it yet. ServiceError: MLflow does not answer.
    """
    registry = Registry(s)
    version = registry.of_run(mlflow_run)
    champion = registry.by_alias(CHAMPION)
    decision = Decision.of_tags(own_tags(version)) if version else None
    if version is None or decision is None:
        raise DataError(f"{registry.name}: MLflow run {mlflow_run} is not decided about yet; run 'hmar promote' first")
    return _promoted(registry.name, str(champion.version) if champion else "", decision)


def _promoted(name: str, champion: str, decision: Decision) -> Promoted:
    interval = None if decision.low is None or decision.high is None else (decision.low, decision.high)
    return Promoted(
        name=name,
        champion=champion,
        promoted=decision.promoted,
        reason=decision.reason,
        gain=decision.gain,
        interval=interval,
    )


def _decide(
    s: RetrainSettings, built: Built, registered: Registered, registry: Registry, champion: "ModelVersion | None"
) -> Decision:
    known = own_tags(registry.version(registered.version)).get("leaks") or _leaks_of(s)
    if known:
        number = str(champion.version) if champion else ""
        return Decision(False, f"trained or judged with leaks: {known}", number, refused=True)
    if champion is None:
        return Decision(True, "the first version of this dataset: there is no champion to compare with")
    if str(champion.version) == registered.version:
        return Decision(True, "this version holds the alias already", registered.version)
    registry.point(CHALLENGER, registered.version)
    from hmar.evaluate import per_target as outcomes
    from hmar.evaluate.compare import paired

    number = str(champion.version)
    settings = s.promote
    challenger = outcomes.read(per_target(registered.directory, built.id, s.split))
    try:
        comparison = paired(
            outcomes.read(_outcome_of_champion(s, built, registered, registry, champion)),
            challenger,
            settings.metric,
            confidence=settings.confidence,
            resamples=settings.resamples,
            seed=settings.seed,
        )
    except DataError as error:
        reason = f"not comparable with champion version {number}: {error}"
        return Decision(False, reason, number)
    return rule(settings, comparison, number)


def _leaks_of(s: RetrainSettings) -> str:
    """What the settings of the run alone say."""
    return f"split={s.split}" if s.split == "published" else ""


def _outcome_of_champion(
    s: RetrainSettings, built: Built, registered: Registered, registry: Registry, champion: "ModelVersion"
) -> Path:
    """The champion's outcome per test target of this snapshot: kept from its own run, or judged now."""
    tags = own_tags(champion)
    if tags.get("run") and tags.get("model"):
        own = per_target(s.paths.training(tags["run"], tags["model"]), built.id, s.split)
        if own.is_file():
            return own
    from pipeline.stages.evaluate import evaluate_export

    out = registered.directory / f"champion_v{champion.version}"
    name = f"champion version {champion.version}"
    export = registry.download(str(champion.version), out / "export")
    return evaluate_export(s, built, name, export, out) / "per_target_test.parquet"


def _apply(registry: Registry, version: str, former: str, decision: Decision) -> None:
    if decision.promoted:
        if former and former != version:
            registry.tag(former, {"replaced_by": version})
        registry.point(CHAMPION, version)
        challenger = registry.by_alias(CHALLENGER)
        if challenger is not None and str(challenger.version) == version:
            registry.drop(CHALLENGER)
    elif former != version and not decision.refused:
        registry.point(CHALLENGER, version)
    registry.tag(version, {"applied": "true"})
