"""What one training is given. Light to import: models are looked up only when a value is validated.

A launcher that passes a settings file should take ``HMAR_TRAIN__*`` out of the child's environment when it has
resolved them already: in the child the environment is the stronger layer.
"""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from hmar.errors import SettingsError
from hmar.models import MODELS, model_class
from hmar.settings import LayeredSettings, Section, deep_merge, nearest, read_yaml

PRESETS = Path(__file__).parent.parent / "presets"

_PLACES = {"snapshot", "out", "preset", "tracking"}
_MANNERS = {"device", "processes", "threads", "checkpoint_seconds", "keep_checkpoints", "log_seconds", "chunk_mb"}
RESUMABLE_KEYS = frozenset(_PLACES | _MANNERS)
"""Settings that may differ when a training is continued: they say where and how it runs, not what it computes.

(The snapshot is compared by its id, not by its path.)
"""


class TrackingSettings(Section):
    """Where the MLflow run goes."""

    uri: str = "sqlite:///var/mlflow.db"
    """MLflow tracking address: sqlite:///FILE, postgresql://..., http://HOST:PORT."""
    experiment: str = "hmar"
    """Experiment name; created where it does not exist."""
    artifacts: str = ""
    """Artifact location of a new experiment; if empty, mlartifacts beside an SQLite file, else the server's."""
    run_name: str = ""
    """Name of the run; the model's name if empty."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Further tags of the run."""
    weights: bool = True
    """Whether the weights and the exported model go there, too."""

    @field_validator("uri")
    @classmethod
    def _absolute_file(cls, uri: str) -> str:
        """A relative SQLite file means the working directory of now, also for who reads these settings later."""
        relative = uri.removeprefix("sqlite:///")
        return f"sqlite:///{Path(relative).absolute()}" if relative and relative != uri else uri


class TrainSettings(LayeredSettings):
    """Train one model on one snapshot; the same command again continues an interrupted training.

    --settings FILE (YAML or JSON) is a layer below the environment (HMAR_TRAIN__*) and these flags.
    """

    model_config = SettingsConfigDict(env_prefix="HMAR_TRAIN__")

    model: str
    """Registered model: hmar, hmar_plus, sasrec, bpr_mf, gru4rec, caser, cnn, bi_lstm, bi_lstm_attention, din,
    dien, tha4rec, atrank, dfn, dfar, feedrec, popularity, recent."""
    snapshot: Path
    """Snapshot directory."""
    out: Path
    """Directory of this training: checkpoints, best weights, log, exported model."""
    split: Literal["leave_one_out", "temporal", "published"] = "leave_one_out"
    """Split of the snapshot that bounds the training events and gives the validation targets."""
    protocol: Literal["honest", "published"] = "honest"
    """published: all as HMAR's published code has it, leaks included (hmar/presets/protocols/published.yaml), to
    compare with printed tables; such a model is never promoted. Settings that are given beside it go before."""
    preset: str = ""
    """Dataset preset, a file of hmar/presets; if empty, the one named like the snapshot's source, if any."""
    config: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    """The model's own settings, by the paper's names; unknown keys are errors."""
    loss: str = Field("", validate_default=True)
    """Registered loss. Encoders: bce (if empty), bpr, cross_entropy, gbce, sampled_softmax. Rankers: log_loss."""
    negatives: int = Field(1, ge=1)
    """Sampled negatives of a position, for losses that use them. Rankers: of those in the snapshot, how many per
    positive are in an epoch."""
    in_batch: int = Field(0, ge=0)
    """Rankers: positives of the step's other moments that each moment has as further negatives."""
    negatives_from: Literal["unseen", "uniform", "popularity"] = "unseen"
    """Where negatives are drawn: items outside the user's training history, all items alike, or all items in
    proportion to their training events (plus one). gbce needs uniform, sampled_softmax uniform or popularity."""
    negatives_per: Literal["position", "batch"] = "position"
    """Whether every position has negatives of its own, or a batch one set for all: cheap enough for thousands."""
    gbce_t: float | None = Field(None, ge=0, le=1)
    """Calibration of gbce: 0 leaves its probabilities too high as bce does, 1 corrects them fully; none: 0.75."""
    chunk_mb: float | None = Field(None, gt=0)
    """Memory for the logits that cross_entropy holds at once, MiB; none: as the device is fastest with. The last bits
    of a training depend on it."""
    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = Field(6e-4, gt=0)
    """Learning rate."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decay rates of Adam's moments."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty (adam) or decoupled decay (adamw)."""
    warmup: int = Field(0, ge=0)
    """Optimizer steps over which the learning rate rises linearly to lr."""
    clip: float | None = Field(None, gt=0)
    """Largest gradient norm; none: not clipped."""
    batch_size: int = Field(128, ge=1)
    """Users per step; with long_histories windows, windows; rankers: moments of feedback."""
    max_length: int = Field(150, ge=1)
    """L: the latest events of a history that a model reads."""
    batch_tokens: int | None = Field(None, ge=2)
    """Positions per step, about, in place of batch_size: all steps take about the same memory then; none: batch_size
    decides. At least twice max_length."""
    batching: Literal["shuffled", "by_length", "replacement"] = "shuffled"
    """Which users share a step: as chance has it, of similar length, or drawn with replacement, as HMAR's published
    code does; an epoch then has users / batch_size steps, rounded down."""
    long_histories: Literal["last", "windows"] = "last"
    """Of a history longer than max_length, learn to predict the last events only, or cut it into windows, so that every
    event is predicted once an epoch."""
    max_epochs: int = Field(200, ge=1)
    eval_every: int = Field(1, ge=1)
    """Epochs between two evaluations on the validation targets."""
    patience: int = Field(10, ge=1)
    """Evaluations without a better select_metric after which training ends."""
    select_on: Literal["validation", "test"] = "validation"
    """Whose targets choose the best epoch; test is a leak of the published code."""
    select_among: Literal["full", "sampled"] = "full"
    """The candidates that these targets are ranked among: the catalog, or the snapshot's sampled ones."""
    select_metric: Literal["", "ndcg@10", "hr@10", "mrr", "auc", "gauc"] = Field("", validate_default=True)
    """The metric that chooses: of ranked targets, or, auc and gauc, of labelled impressions. If empty, auc for rankers,
    whose rankings of a whole catalog take long, and ndcg@10 for all others."""
    seed: int = Field(0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    processes: int = Field(1, ge=1)
    """Processes on this machine that share every batch, on GPUs one for each; leave it at 1 under torchrun, which says
    it itself."""
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    compile: bool = False
    """torch.compile for the step: it takes a C++ compiler and a minute or more at the start, and the last bits depend
    on it. On a CPU hmar's steps with shared negatives became 1.8 times as fast, sasrec's no faster; on a GPU it has
    not been measured."""
    threads: int = Field(2, ge=0)
    """CPU threads of torch; 0: as many as this process may use cores. Small models gain nothing from more than two,
    and on a busy machine they lose; cross_entropy over a large catalog gains. The last bits of a training depend on
    it."""
    checkpoint_seconds: float = Field(300, gt=0)
    """Longest time of work that a crash can cost."""
    keep_checkpoints: int = Field(2, ge=1)
    """Checkpoints kept; where the newest is damaged, the one before is used."""
    log_seconds: float = Field(10, gt=0)
    """Interval of progress lines where the output is no terminal."""
    tracking: TrackingSettings = TrackingSettings()

    @classmethod
    def preset_values(cls, chosen: Mapping[str, Any]) -> Mapping[str, Any]:
        name = str(chosen.get("preset", "")) or _source_of(chosen.get("snapshot"))
        if name and name not in preset_names():
            raise SettingsError(f"preset: unknown preset {name!r}{nearest(name, preset_names())}")
        values = preset(name, str(chosen.get("model", "")), str(chosen.get("protocol", "honest")))
        return {"preset": name, **values} if name else values

    @field_validator("model")
    @classmethod
    def _known_model(cls, model: str) -> str:
        if model not in MODELS:
            raise ValueError(f"unknown model{nearest(model, list(MODELS))}")
        return model

    @field_validator("config")
    @classmethod
    def _full_config(cls, config: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """The model's whole configuration, its defaults filled in."""
        if "model" not in info.data:
            return config
        return model_class(info.data["model"]).Config.parse(config, "config").model_dump(mode="json")

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, loss: str, info: ValidationInfo) -> str:
        losses = import_module("hmar.losses")
        ranker = _family(info) == "ranker"
        own, others = (losses.LOSSES, losses.RANKER_LOSSES)[:: -1 if ranker else 1]
        if not loss:
            return str(next(iter(own)))
        if loss in others and "model" in info.data:
            kind = "a ranker" if ranker else "no ranker"
            raise ValueError(
                f"{loss} is for {'encoders' if ranker else 'rankers'}, and {info.data['model']} is {kind}; "
                f"set {', '.join(own)}"
            )
        if loss not in own:
            raise ValueError(f"unknown loss{nearest(loss, list(own))}")
        return loss

    @field_validator("negatives_from", "negatives_per", "long_histories")
    @classmethod
    def _encoders_only(cls, value: str, info: ValidationInfo) -> str:
        usual = {"negatives_from": "unseen", "negatives_per": "position", "long_histories": "last"}
        if _family(info) == "ranker" and value != usual[str(info.field_name)]:
            raise ValueError(
                "rankers take the impressions that the snapshot holds (its setting impressions); leave it out"
            )
        return value

    @field_validator("negatives_from")
    @classmethod
    def _source_fits_loss(cls, source: str, info: ValidationInfo) -> str:
        loss = info.data.get("loss")
        if loss == "gbce" and source != "uniform":
            raise ValueError("gbce calibrates for negatives that are drawn from all items alike; set uniform")
        if loss == "sampled_softmax" and source == "unseen":
            raise ValueError("sampled_softmax estimates a sum over the whole catalog; set uniform or popularity")
        return source

    @field_validator("negatives_per")
    @classmethod
    def _sharing_fits(cls, per: str, info: ValidationInfo) -> str:
        if per == "batch" and info.data.get("loss") == "cross_entropy":
            raise ValueError("cross_entropy scores every item and draws no negatives; set position")
        if per == "batch" and info.data.get("negatives_from") == "unseen":
            raise ValueError("negatives_from unseen differs by user, so a batch cannot share them; set one of the two")
        return per

    @field_validator("negatives_per")
    @classmethod
    def _published_counts_known(cls, per: str, info: ValidationInfo) -> str:
        config = info.data.get("config", {})
        published = config.get("candidate_hbi") == "published" or config.get("mirrored_context")
        if published and (per == "batch" or info.data.get("loss") == "cross_entropy"):
            raise ValueError(
                "candidate_hbi published and mirrored_context are known for negatives of a position's own only; set "
                "position and another loss than cross_entropy"
            )
        return per

    @field_validator("in_batch")
    @classmethod
    def _rankers_only(cls, in_batch: int, info: ValidationInfo) -> int:
        if in_batch and _family(info) in ("rule", "encoder"):
            raise ValueError("for rankers; for encoders set negatives_per")
        return in_batch

    @field_validator("select_metric")
    @classmethod
    def _metric_of_family(cls, metric: str, info: ValidationInfo) -> str:
        return metric or ("auc" if _family(info) == "ranker" else "ndcg@10")

    @field_validator("gbce_t", "chunk_mb")
    @classmethod
    def _option_fits_loss(cls, value: float | None, info: ValidationInfo) -> float | None:
        owner = {"gbce_t": "gbce", "chunk_mb": "cross_entropy"}[str(info.field_name)]
        loss = info.data.get("loss", owner)
        if value is not None and loss != owner:
            raise ValueError(f"only loss {owner} has it, and this is {loss}; leave it out")
        return value

    @field_validator("max_length")
    @classmethod
    def _within_positions(cls, max_length: int, info: ValidationInfo) -> int:
        positions = info.data.get("config", {}).get("positions")
        if isinstance(positions, int) and positions < max_length:
            raise ValueError(f"the model has {positions} positions; lower it, or raise config.positions")
        return max_length

    @field_validator("batch_tokens")
    @classmethod
    def _holds_two_windows(cls, batch_tokens: int | None, info: ValidationInfo) -> int | None:
        longest = info.data.get("max_length", 1)
        if batch_tokens is not None and batch_tokens < 2 * longest:
            raise ValueError(f"less than twice max_length, which is {longest}; raise it")
        return batch_tokens

    @field_validator("betas")
    @classmethod
    def _decay_rates(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("decay rates lie in [0, 1)")
        return betas

    @property
    def chosen_by(self) -> str:
        """The number that chooses the best epoch, as a line of text names it."""
        return f"{self.select_on} {self.select_metric}" + ("" if self.select_among == "full" else " (sampled)")

    @property
    def loss_options(self) -> dict[str, float]:
        """What the chosen loss is made with (:func:`hmar.losses.loss_function`)."""
        given = {"t": self.gbce_t, "chunk_mb": self.chunk_mb}
        return {name: value for name, value in given.items() if value is not None}


def _family(info: ValidationInfo) -> str:
    """rule, encoder or ranker; empty where the model is not known."""
    return str(model_class(info.data["model"]).family) if "model" in info.data else ""


def preset_names() -> list[str]:
    """The datasets that have training presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def preset(name: str, model: str, protocol: str = "honest") -> dict[str, Any]:
    """The preset's training settings of one model; empty where it has none, or where no preset is named.

    The protocol ``published`` puts over them its own for all models and for this one, then the preset's.
    """
    of_dataset = read_yaml(PRESETS / f"{name}.yaml") if name else {}
    values: dict[str, Any] = dict(of_dataset.get(model) or {})
    if protocol == "published":
        of_protocol = read_yaml(PRESETS / "protocols" / "published.yaml")
        for layer in (of_protocol["all"], of_protocol.get(model), of_dataset.get("published", {}).get(model)):
            values = deep_merge(values, layer or {})
    return values


def _source_of(snapshot: Any) -> str:
    """The source named by a snapshot's manifest if a preset exists for it; opening it properly comes later."""
    if not snapshot:
        return ""
    try:
        source = str(json.loads((Path(str(snapshot)) / "manifest.json").read_text(encoding="utf-8")).get("source", ""))
    except (OSError, ValueError):
        return ""
    return source if source in preset_names() else ""
