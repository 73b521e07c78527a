"""The rules of the house that no single test of a module can see."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

PACKAGES = ("hmar", "pipeline", "dags")
FORBIDDEN = {
    "hmar": {"pipeline", "dags", "airflow"},
    "pipeline": {"dags", "airflow"},
    "dags": {"torch", "duckdb", "mlflow", "great_expectations", "lightning_fabric"},
}
HEAVY = (
    "torch",
    "duckdb",
    "mlflow",
    "pandas",
    "great_expectations",
    "matplotlib",
    "scipy",
    "pyarrow",
    "lightning_fabric",
)
LIGHT = (
    "hmar.errors",
    "hmar.models",
    "hmar.settings",
    "pipeline.benchmark.settings",
    "pipeline.cli",
    "pipeline.form",
    "pipeline.home",
    "pipeline.results",
    "pipeline.schedules",
    "pipeline.settings",
    "pipeline.sources",
)


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (CHECKOUT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, those inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=name)
def test_imports_point_one_way(path: Path) -> None:
    forbidden = FORBIDDEN[path.relative_to(CHECKOUT).parts[0]]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wrong = [f"{name(path)}:{line} imports {module}" for line, module in imports(tree)
             if module.split(".")[0] in forbidden]  # fmt: skip
    assert not wrong


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=name)
def test_nothing_runs_what_a_file_says(path: Path) -> None:
    """No pickle in any guise, no torch.load that could unpickle, no eval."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wrong = [f"{line}: {module}" for line, module in imports(tree)
             if module.split(".")[0] in {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}]  # fmt: skip
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if call == "torch.load" and keywords.get("weights_only") != "True":
            wrong.append(f"{node.lineno}: torch.load without weights_only=True")
        if call in {"eval", "exec", "yaml.load", "pd.read_pickle", "os.system"}:
            wrong.append(f"{node.lineno}: {call}")
        if keywords.get("allow_pickle") == "True" or keywords.get("shell") == "True":
            wrong.append(f"{node.lineno}: {call} with {keywords}")
    assert not wrong, f"{name(path)}: {wrong}"


@pytest.mark.parametrize("path", sources(*PACKAGES, "benchmarks"), ids=name)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree), f"{name(path)} has no docstring"


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_nothing_heavy(module: str) -> None:
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ImportError("refused: " + name)
sys.meta_path.insert(0, Refuse())
import {module}
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("package", "registry"), [("hmar.models", "MODELS"), ("hmar.losses", "LOSSES"), ("pipeline.sources", "SOURCES")]
)
def test_a_registered_name_is_its_file_name(package: str, registry: str) -> None:
    entries = getattr(import_module(package), registry)
    folder = CHECKOUT / package.replace(".", "/")
    files = {path.stem for path in folder.glob("*.py")}
    assert entries
    assert set(entries) <= files


@pytest.mark.parametrize("path", sorted((CHECKOUT / "sql").rglob("*.sql")), ids=name)
def test_sql_begins_with_its_grain(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert re.match(r"-- (one|a single) row\b", first), f"{name(path)}: begins with {first!r}"
    assert re.match(r"\d\d_[a-z0-9_]+\.sql$", path.name), f"{name(path)}: not NN_name.sql"


def tracked_text() -> list[Path]:
    """The repository's own files; what git ignores is not ours."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    paths = [CHECKOUT / line for line in done.stdout.splitlines()]
    return [path for path in paths if path.is_file() and path.suffix not in {".png", ".lock", ".ico", ".woff2"}]


def test_no_path_of_a_particular_machine() -> None:
    machine = re.compile(r"(?<![\w.<-])/(?:(?:work|farm|root|Users)/\w|home/(?!you\b|airflow\b)\w|opt/(?:wheels|pypi))")
    wrong = []
    for path in tracked_text():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if machine.search(line):
                wrong.append(f"{name(path)}:{number}: {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)


def test_no_secret_in_the_repository() -> None:
    secret = re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAKIA[0-9A-Z]{16}\b|\bsk-[A-Za-z0-9]{32,}"
    )
    wrong = [name(path) for path in tracked_text() if secret.search(path.read_text(encoding="utf-8", errors="replace"))]
    assert not wrong


def test_test_folders_mirror_the_packages() -> None:
    """A test file under tests/hmar, tests/pipeline or tests/dags stands in a folder that the package has too."""
    for path in sources("tests"):
        parts = path.relative_to(CHECKOUT / "tests").parts
        if path.name.startswith("test_") and parts[0] in PACKAGES:
            assert (CHECKOUT / Path(*parts[:-1])).is_dir(), name(path)


def test_every_test_module_is_importable_under_one_name() -> None:
    """Without an __init__.py two tests of the same file name would shadow each other."""
    for path in sources("tests"):
        assert (path.parent / "__init__.py").exists(), f"{path.parent} has no __init__.py"
