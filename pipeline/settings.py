"""The settings of a pipeline run, one section per stage.

This module is imported when Airflow parses the DAGs: keep it free of torch, duckdb, mlflow and pandas.
"""

import difflib
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from hmar.errors import SettingsError
from hmar.settings import LayeredSettings, Section, deep_merge, nearest, read_yaml
from pipeline.home import Home
from pipeline.table_settings import TableSettings

PRESETS = Path(__file__).parent / "presets"

Split = Literal["leave_one_out", "temporal", "published"]
SPLITS: tuple[Split, ...] = get_args(Split)


class EngineSettings(Section):
    """How much of this machine DuckDB may use."""

    memory_limit: str = "4GB"
    """DuckDB's buffer ceiling; the process itself needs about twice that at worst."""
    threads: int = Field(4, ge=1)


class IngestSettings(Section):
    """Raw files to accounted events."""

    since: datetime | None = None
    """First plausible moment, included; UTC unless an offset is given. Rows before it are outside the window."""
    until: datetime | None = None
    """First moment that is too late; UTC unless an offset is given."""
    outside_window: Literal["quarantine", "keep"] = "quarantine"
    """What happens to rows outside the window; either way they are counted under the reason 'outside_window'."""
    mode: Literal["replace", "append"] = "replace"
    """replace: the events are exactly what the given files hold. append: what they add to the published events."""
    identical_rows: Literal["duplicate", "event"] = "duplicate"
    """Rows of equal user, item, behavior and time: one event and duplicates of it, or, where the clock is coarse (days,
    hours), each an event of its own. A file that is delivered twice is recognized by its content either way."""
    partition: Literal["day", "month", "year"] = "day"
    """Span of one event_date partition; its value is the first day of the span."""
    max_quarantined_share: float = Field(0.01, ge=0, le=1)
    """Above this share of quarantined rows the run stops before publishing."""
    max_quarantined_rows: int | None = Field(None, ge=0)
    """Above this many quarantined rows the run stops before publishing."""

    @field_validator("since", "until")
    @classmethod
    def _in_utc(cls, moment: datetime | None) -> datetime | None:
        return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


class ExpectationSettings(Section):
    """What Great Expectations judges before events are published."""

    min_events: int = Field(1, ge=0)
    min_users: int = Field(1, ge=0)
    min_items: int = Field(1, ge=0)
    max_duplicate_share: float = Field(0.2, ge=0, le=1)
    min_target_share: float = Field(0.0, ge=0, le=1)
    """Lowest share of target-behavior events."""
    max_target_share: float = Field(1.0, ge=0, le=1)
    min_value: float | None = None
    """Lowest plausible value (a rating, a label) of an event; not asked if null."""
    max_value: float | None = None
    """Highest plausible value of an event; not asked if null."""
    trailing: int = Field(7, ge=3)
    """How many partitions before the newest say what is usual."""
    min_volume: float | None = Field(None, ge=0)
    """Fewest events of the newest partition, as a multiple of the trailing median; not asked if null."""
    max_volume: float | None = Field(None, ge=0)
    """Most events of the newest partition, as a multiple of the trailing median; not asked if null."""
    max_behavior_drift: float | None = Field(None, ge=0, le=1)
    """Total variation distance of the newest partition's behavior mix from the trailing ones'; not asked if null."""


class KCore(Section):
    """Users and items with fewer events than this are left out, repeatedly until none is. 1 keeps all."""

    user: int = Field(1, ge=1)
    item: int = Field(1, ge=1)


class ImpressionSettings(Section):
    """Labelled impressions: at every moment of feedback, what the user said yes or no to, and items beside them. They
    are built where there is something to be labelled 0: a negative behavior, or sampled negatives."""

    positive: tuple[str, ...] = ()
    """Behaviors that say yes, label 1; the target if empty."""
    negative: tuple[str, ...] = ()
    """Behaviors that say no, label 0."""
    sampled: int = Field(0, ge=0)
    """Items drawn beside each positive, label 0: what the catalog of the moment holds and the user did not choose."""
    sampled_from: Literal["uniform", "popularity"] = "uniform"
    """All items alike, or in proportion to how often anyone had said yes to them before the moment."""

    tasks: tuple[str, ...] = ()
    """Further behaviors to ask about, for models of several tasks (ATRank): each has moments of its own, yes is that
    behavior, and every no is sampled."""

    @property
    def wanted(self) -> bool:
        """Whether there are any to build."""
        return bool(self.negative) or self.sampled > 0


class PublishedSplit(Section):
    """What the split published repeats of HMAR's code; each can be taken back alone."""

    unseen: bool = True
    """Whether its sampled negatives exclude the user's history, whatever snapshot.unseen says."""
    own_validation: bool = False
    """Whether the epoch can be chosen on targets of its own: a user's target event before the held-out one, from which
    on nothing is trained on. The published code has none, so the two parts of the split hold the same targets."""


class SnapshotSettings(Section):
    """Events to point-in-time correct sequences, splits and candidates."""

    behaviors: tuple[str, ...] = ()
    """All behaviors of the dataset in funnel order, weakest first; the position is the stored code."""
    target: str = ""
    """The behavior to predict."""
    repeats: bool = True
    """Whether items recur (shops). If not, items a user has consumed are never candidates again."""
    consumed_by: tuple[str, ...] = ()
    """Where items do not recur: the behaviors that use an item up."""
    k_core: KCore = KCore()
    splits: tuple[Split, ...] = ("leave_one_out", "temporal")
    """Splits to build; the one that models train on is always one. published has the leaks of HMAR's code."""
    candidates: int = Field(99, ge=1)
    """Sampled negatives per target."""
    unseen: bool = False
    """Whether sampled negatives exclude the user's history (the papers' way; it gives repeat targets away)."""
    validation_quantile: float = Field(0.8, gt=0, lt=1)
    """temporal split: training ends at this quantile of the target events' times."""
    test_quantile: float = Field(0.9, gt=0, lt=1)
    """temporal split: the test part begins at this quantile."""
    impressions: ImpressionSettings = ImpressionSettings()
    published: PublishedSplit = PublishedSplit()
    seed: int = 0

    @property
    def positive(self) -> tuple[str, ...]:
        """The behaviors that say yes."""
        return self.impressions.positive or (self.target,)

    @field_validator("splits")
    @classmethod
    def _in_one_order(cls, splits: tuple[Split, ...]) -> tuple[Split, ...]:
        if not splits or len(set(splits)) != len(splits):
            raise ValueError(f"name at least one split, each once: {', '.join(SPLITS)}")
        return tuple(split for split in SPLITS if split in splits)

    @model_validator(mode="after")
    def _consistent(self) -> "SnapshotSettings":
        shown = self.impressions
        for key, names in (
            ("target", (self.target,) if self.target else ()),
            ("consumed_by", self.consumed_by),
            ("impressions.positive", shown.positive),
            ("impressions.negative", shown.negative),
            ("impressions.tasks", shown.tasks),
        ):
            for name in names:
                if self.behaviors and name not in self.behaviors:
                    raise ValueError(f"{key}: unknown behavior {name!r}{nearest(name, list(self.behaviors))}")
        if len(set(self.behaviors)) != len(self.behaviors):
            raise ValueError("behaviors: a name stands twice")
        for name in shown.negative:
            if name in (shown.positive or (self.target,)):
                raise ValueError(f"impressions.negative: {name!r} is positive; a behavior says yes or no")
        if len(set(shown.tasks)) != len(shown.tasks) or self.target in shown.tasks:
            raise ValueError("impressions.tasks: each behavior once, and not the target, which is always asked about")
        if shown.tasks and not shown.sampled:
            raise ValueError("impressions.tasks: their negatives are sampled; set impressions.sampled")
        if self.validation_quantile >= self.test_quantile:
            raise ValueError("validation_quantile must be below test_quantile")
        if not self.repeats and self.behaviors and not self.consumed_by:
            raise ValueError("repeats is false, so consumed_by must name the behaviors that use an item up")
        return self


class PromoteSettings(Section):
    """When a challenger takes the champion's place."""

    metric: Literal["ndcg@10", "hr@10", "mrr", "ndcg@5", "ndcg@20", "hr@5", "hr@20"] = "ndcg@10"
    """Full ranking, test part, of the run's split."""
    min_gain: float = 0.0
    """The lower end of the paired interval of (challenger - champion) must be above this."""
    confidence: float = Field(0.95, gt=0, lt=1)
    resamples: int = Field(2000, ge=100)
    seed: int = 0


class RecommendSettings(Section):
    """What the champion writes."""

    k: int = Field(20, ge=1)
    """Items per user."""


class ExplainSettings(Section):
    """What an evaluation tells of why."""

    users: int = Field(50, ge=0)
    """Users whose first recommendation is explained, together in one picture per model; 0: none are."""


class RetrainSettings(LayeredSettings):
    """One run of the pipeline: raw logs to a judged, registered and, if better, promoted model."""

    dataset: str
    """Preset of the log's kind: amazon, kuairand, movielens, taobao, tianchi, tmall, yelp, or table for one's own."""
    raw: Path
    """The raw log: a file, a directory or a pattern such as "logs/*.csv.gz"; {date} in it stands for the day."""
    day: date | None = None
    """The day that {date} in raw stands for."""
    name: str = ""
    """Name under which events, snapshots and the registered model live; the preset's name if empty."""
    models: tuple[str, ...] = ("hmar", "sasrec", "popularity", "recent")
    """Models to train; the best of them on validation is registered."""
    split: Split = "leave_one_out"
    """The split that models train, choose and are judged on."""
    protocol: Literal["honest", "published"] = "honest"
    """published: train and judge as HMAR's published code does, leaks included, on the split of that name, to compare
    with printed tables; nothing so trained or judged is promoted."""
    overrides: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Training settings per model, over the presets: {"hmar": {"lr": 0.001, "config": {"d": 64}}}."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Training settings for all models, over the presets: {"max_epochs": 50}."""
    seed: int = 0
    home: Path = Path("var")
    """Data directory."""
    tracking_uri: str = ""
    """MLflow tracking and registry address; an SQLite file in home if empty."""
    source: str = ""
    """Raw format; from the preset."""
    table: TableSettings | None = None
    """One's own log (dataset: table): its columns, behaviors and times."""
    engine: EngineSettings = EngineSettings()
    ingest: IngestSettings = IngestSettings()
    expectations: ExpectationSettings = ExpectationSettings()
    snapshot: SnapshotSettings = SnapshotSettings()
    promote: PromoteSettings = PromoteSettings()
    recommend: RecommendSettings = RecommendSettings()
    explain: ExplainSettings = ExplainSettings()

    @classmethod
    def preset_values(cls, chosen: Mapping[str, Any]) -> Mapping[str, Any]:
        dataset = str(chosen.get("dataset", ""))
        if not dataset:
            return {}
        known = preset_names()
        if dataset not in known:
            raise SettingsError(f"dataset: unknown preset {dataset!r}{nearest(dataset, known)}")
        preset = read_yaml(PRESETS / f"{dataset}.yaml")
        if chosen.get("protocol") == "published":
            preset["split"] = "published"
        if preset.get("source") != "table":
            return {"name": dataset, **preset}
        return deep_merge(preset, _derived(chosen.get("table")))

    @classmethod
    def meant_by(cls, flag: str, value: str | None) -> str:
        """A training setting, which is written under ``train``."""
        from hmar.train.settings import TrainSettings

        name = flag.removeprefix("--").replace("-", "_")
        close = difflib.get_close_matches(name, TrainSettings.model_fields, n=1, cutoff=0.7)
        if not close:
            return ""
        try:
            told = json.dumps({close[0]: json.loads(value or "")})
        except ValueError:
            told = json.dumps({close[0]: value or "..."})
        return f"--train '{told}'"

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str, info: ValidationInfo) -> str:
        if not name and "dataset" not in info.data:  # the preset would have named it; that is missed already
            return name
        if not name:
            raise ValueError("is required: what the dataset is called, in the data directory and in MLflow")
        if not all(c.isalnum() or c in "-_." for c in name):
            raise ValueError("a name is letters, digits, '-', '_' and '.'")
        return name

    @field_validator("snapshot")
    @classmethod
    def _with_the_split(cls, snapshot: SnapshotSettings, info: ValidationInfo) -> SnapshotSettings:
        wanted = {*snapshot.splits, info.data.get("split")}
        return snapshot.model_copy(update={"splits": tuple(split for split in SPLITS if split in wanted)})

    @model_validator(mode="after")
    def _table_agrees(self) -> "RetrainSettings":
        if self.source == "table" and self.table is None:
            raise ValueError("table: is required; it says which column is what (docs/your-own-log.md)")
        if self.table is None:
            return self
        if self.source != "table":
            raise ValueError(f"table: is for dataset: table; {self.dataset} knows its columns")
        if self.snapshot.behaviors != self.table.names:
            raise ValueError("snapshot.behaviors: table.behaviors has them already; leave it out")
        return self

    @cached_property
    def paths(self) -> Home:
        """The layout of the data directory."""
        return Home(self.home.absolute())

    @property
    def mlflow_uri(self) -> str:
        return self.tracking_uri or self.paths.mlflow_uri


def preset_names() -> list[str]:
    """The datasets that have a preset."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def _derived(table: Any) -> dict[str, Any]:
    """What follows from the table section; nothing if it is not valid, which validation will say better."""
    try:
        return table.derived if isinstance(table, TableSettings) else TableSettings.model_validate(table).derived
    except ValidationError:
        return {}
