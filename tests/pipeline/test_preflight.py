"""What is refused before any work is done."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hmar.errors import DataError, ServiceError, SettingsError, StorageError
from pipeline import preflight
from pipeline.settings import RetrainSettings
from tests.support.training import blank_store


def _settings(tmp_path: Path, **values: Any) -> RetrainSettings:
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    (raw / "u.data").write_text("1\t1\t5\t900000000\n", encoding="utf-8")
    given: Mapping[str, Any] = {"dataset": "movielens", "raw": raw, "home": tmp_path / "home", **values}
    return RetrainSettings.resolve(given, use_environment=False)


def test_good_settings_pass_and_the_embedded_store_is_made(tmp_path: Path) -> None:
    s = _settings(tmp_path)
    preflight.check(s)
    assert (s.paths.root / "mlflow.db").is_file()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"models": ["hmra"]}, "models: unknown model 'hmra'; did you mean 'hmar'?"),
        ({"models": []}, "models: name at least one"),
        ({"models": ["hmar", "hmar"]}, "models: 'hmar' stands twice"),
        ({"overrides": {"sasrce": {}}}, "overrides: unknown model 'sasrce'; did you mean 'sasrec'?"),
        (
            {"overrides": {"hmar": {"lrr": 0.1}}},
            "training settings of hmar: lrr: unknown setting; did you mean 'lr'?",
        ),
        (
            {"overrides": {"hmar": {"config": {"thetta": 0.1}}}},
            "training settings of hmar: config: thetta: unknown setting; did you mean 'theta'?",
        ),
        (
            {"overrides": {"sasrec": {"d": 16}}},
            "training settings of sasrec: d: unknown setting; did you mean 'config.d'?",
        ),
        ({"train": {"max_epoch": 5}}, "unknown setting; did you mean 'max_epochs'?"),
        ({"train": {"lr": -1}}, "training settings of hmar: lr: "),
        ({"train": {"snapshot": "elsewhere"}}, "train.snapshot: the pipeline decides this one; leave it out"),
        ({"overrides": {"sasrec": {"out": "x"}}}, "overrides.sasrec.out: the pipeline decides this one"),
        (
            {"models": ["sasrec", "din"], "snapshot": {"impressions": {"sampled": 0, "negative": []}}},
            "models: din: rankers learn from labelled impressions, and these settings build none; set "
            "snapshot.impressions.sampled (items drawn beside each yes) or, where a behavior says no, "
            "snapshot.impressions.negative",
        ),
    ],
)
def test_bad_settings_are_named_and_nothing_is_made(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        preflight.check(_settings(tmp_path, **values))
    assert message in str(raised.value)
    assert not (tmp_path / "home").exists()


def test_a_run_that_begins_with_published_events_asks_for_no_raw_log(tmp_path: Path) -> None:
    s = _settings(tmp_path, raw=tmp_path / "{date}" / "u.data")
    blank_store(s.paths.root / "mlflow.db")
    preflight.check(s, reads_raw=False)
    with pytest.raises(SettingsError, match="needs a day"):
        preflight.check(s)


def test_overrides_of_a_model_that_is_not_trained_are_checked_too(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="training settings of sasrec: lrr"):
        preflight.check(_settings(tmp_path, models=["popularity"], overrides={"sasrec": {"lrr": 1}}))


@pytest.mark.parametrize("where", [{"train": {"device": "cuda"}}, {"overrides": {"sasrec": {"device": "cuda"}}}])
def test_a_gpu_that_is_not_there_is_missed_where_the_trainings_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: dict[str, Any]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    s = _settings(tmp_path, models=["popularity", "sasrec"], **where)
    blank_store(s.paths.root / "mlflow.db")
    preflight.check(s)  # by a task of Airflow, whose trainings may run on another machine
    with pytest.raises(SettingsError, match=r"(sasrec|popularity): device: 'cuda' is not available on this machine"):
        preflight.check(s, trains_here=True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    preflight.check(s, trains_here=True)


def test_rankers_have_no_impressions_in_the_published_split(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"models: din: .* split published has none"):
        preflight.check_models(_settings(tmp_path, models=["din"], split="published"))


def test_missing_raw_log(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"raw: .*nowhere does not exist"):
        preflight.check(_settings(tmp_path, raw=tmp_path / "nowhere"))
    assert not (tmp_path / "home").exists()


def test_empty_directory_as_raw_log(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty directory"):
        preflight.check(_settings(tmp_path, raw=tmp_path / "empty"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_raw_log_that_may_not_be_read(tmp_path: Path) -> None:
    s = _settings(tmp_path)
    s.raw.chmod(0)
    with pytest.raises(DataError, match="may not be read"):
        preflight.check_raw(s.raw)
    s.raw.chmod(0o700)


def test_home_that_cannot_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match=r"home: .*file/home: Not a directory"):
        preflight.check(_settings(tmp_path, home=tmp_path / "file" / "home"))


def test_mlflow_that_does_not_answer_is_named_within_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ServiceError, match=r"MLflow at http://127\.0\.0\.1:9: .*"):
        preflight.check_mlflow(_settings(tmp_path, tracking_uri="http://127.0.0.1:9"))
    assert time.monotonic() - started < 20


def test_password_of_the_store_is_not_told(tmp_path: Path) -> None:
    s = _settings(tmp_path, tracking_uri="postgresql+psycopg://hmar:secret@127.0.0.1:9/mlflow")
    with pytest.raises(ServiceError) as raised:
        preflight.check_mlflow(s)
    assert "secret" not in str(raised.value)
    assert "127.0.0.1:9" in str(raised.value)
