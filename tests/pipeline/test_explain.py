"""``hmar explain`` on a night's champion, from the command line."""

import shutil
from pathlib import Path

import pytest
import yaml

from hmar.data.snapshot import Snapshot
from pipeline.cli import main
from tests.support.night import RUN, Night

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def where(night: Night, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Settings for a copy of the night's data directory."""
    folder = tmp_path_factory.mktemp("explain")
    shutil.copytree(night.s.paths.root, folder / "home")
    values = night.s.model_dump(mode="json", exclude_none=True) | {"home": str(folder / "home"), "tracking_uri": ""}
    (folder / "settings.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return ("--settings", str(folder / "settings.yaml"))


def test_champion_and_a_models_own_items(
    where: tuple[str, ...], night: Night, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = str(Snapshot(night.built.snapshot).users.column("user_id")[17].as_py())
    assert main(["explain", "--user", user, "--top", "2", *where]) == 0
    told = capsys.readouterr().out
    assert told.count(f"User {user}, item") == 2
    assert f"rank 1, by version {night.promoted.champion} on snapshot" in told
    assert "Without all events of a behavior" in told
    pictures = sorted((Path(where[1]).parent / "home" / "explanations" / night.s.name / user).glob("*.png"))
    assert len(pictures) == 2
    assert all(str(path) in told for path in pictures)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)

    item = pictures[0].stem.rsplit("-", 1)[1]
    words = ["--item", item, "--run", RUN, "--model", "sasrec", "--out", str(tmp_path / "pictures")]
    assert main(["explain", "--user", user, *words, *where]) == 0
    told = capsys.readouterr().out
    assert f"User {user}, item {item}, rank" in told
    assert "blocks.0.attention" in told
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == [f"sasrec_of_{RUN}-{item}.png"]


@pytest.mark.parametrize("out", ["notes", "notes/pictures"])
def test_pictures_that_have_nowhere_to_go_are_refused_before_the_work(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes").write_text("", encoding="utf-8")
    assert main(["explain", "--dataset", "taobao", "--user", "7", "--out", out]) == 78  # without events or a champion
    assert "notes is a file; give a directory for the pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--user", "999999999"), "user '999999999' is not in snapshot"),
        (("--user", "nobody"), "the user ids of this dataset are whole numbers"),
        (("--user", "USER", "--item", "999999999"), "item '999999999' is not in snapshot"),
        (("--user", "USER", "--run", RUN, "--model", "hmar"), "has trained no 'hmar'; it has sasrec, popularity"),
    ],
)
def test_one_line_says_what_is_wrong(
    where: tuple[str, ...], night: Night, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    user = str(Snapshot(night.built.snapshot).users.column("user_id")[17].as_py())
    assert main(["explain", *(user if word == "USER" else word for word in words), *where]) == 65
    told = capsys.readouterr().err
    assert message in told
    assert len(told.strip().splitlines()) == 1
