"""The project as an installed wheel: everything it reads travels with it, nothing of the checkout is needed."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel installed in it."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=CHECKOUT, check=True
    )
    (wheel,) = out.glob("*.whl")
    target = out / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True)
    return target


def python(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process that knows the wheel and, outside of it, no file of this project."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HMAR_")}
    environment["PYTHONPATH"] = str(site)
    return subprocess.run(
        [sys.executable, *arguments], cwd=site.parent, env=environment, capture_output=True, text=True, check=False
    )


def test_data_files_travel_with_the_code(site: Path) -> None:
    for folder, pattern, inside in (
        ("sql", "*.sql", "pipeline/sql"),
        ("dags", "*.py", "pipeline/dags"),
        ("pipeline/presets", "*.yaml", "pipeline/presets"),
        ("hmar/presets", "*.yaml", "hmar/presets"),
        ("pipeline/report", "*.j2", "pipeline/report"),
    ):
        ours = {path.relative_to(CHECKOUT / folder) for path in (CHECKOUT / folder).rglob(pattern)}
        theirs = {path.relative_to(site / inside) for path in (site / inside).rglob(pattern)}
        assert ours, f"nothing matches {folder}/**/{pattern}"
        assert ours == theirs


def test_the_installed_command_line_answers(site: Path) -> None:
    done = python(site, "-m", "pipeline.cli", "--help")
    assert done.returncode == 0, done.stderr
    assert "retrain" in done.stdout


def test_installed_code_reads_its_own_statements_and_presets(site: Path) -> None:
    code = """
from pipeline.settings import RetrainSettings
from pipeline.storage import statements
s = RetrainSettings.resolve({"dataset": "taobao", "raw": "nowhere"})
print(statements.root(), s.snapshot.target, len(statements.digest("snapshot")))
"""
    done = python(site, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(site / "pipeline" / "sql"), "buy", "64"]


def test_installed_processes_start(site: Path) -> None:
    for module in ("hmar.train", "hmar.evaluate"):
        done = python(site, "-m", module, "--help")
        assert done.returncode == 0, done.stderr
        assert "--snapshot" in done.stdout


def test_the_wheel_holds_no_tests_and_no_data(site: Path) -> None:
    (wheel,) = site.parent.glob("*.whl")
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"hmar", "pipeline"}
