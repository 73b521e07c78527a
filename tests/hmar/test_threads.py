"""Threads are owned in one place: torch's, Arrow's and OpenMP's by hmar.threads, DuckDB's by each connection."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

OWNER = "hmar/threads.py"
SETTERS = {"set_num_threads", "set_num_interop_threads", "set_cpu_count", "set_io_thread_count", "OMP_WAIT_POLICY"}


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


def sources() -> list[Path]:
    return sorted(path for folder in ("hmar", "pipeline", "dags") for path in (CHECKOUT / folder).rglob("*.py"))


@pytest.mark.parametrize("setter", sorted(SETTERS))
def test_nobody_else_sets_them(setter: str) -> None:
    found = {str(path.relative_to(CHECKOUT)) for path in sources() if setter in path.read_text(encoding="utf-8")}
    assert found <= {OWNER}


def test_every_duckdb_connection_says_how_many() -> None:
    connections = 0
    for path in sources():
        for call in calls(path):
            if isinstance(call.func, ast.Attribute) and ast.unparse(call.func) == "duckdb.connect":
                connections += 1
                assert "'threads'" in ast.unparse(call), path
    assert connections


def told(code: str, **environment: str) -> str:
    """What a fresh process prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean | environment, cwd=CHECKOUT
    )
    return done.stdout.strip()


THEN = "import os, torch, pyarrow as pa; print(torch.get_num_threads(), pa.cpu_count(), os.environ['OMP_WAIT_POLICY'])"


@pytest.mark.slow
@pytest.mark.parametrize(("given", "expected"), [(3, "3 3"), (0, "2 2")])
def test_torch_and_arrow_have_the_same(given: int, expected: str) -> None:
    code = f"from hmar.threads import limit_threads; limit_threads({given}); {THEN}"
    assert told(code, OMP_NUM_THREADS="2", OMP_WAIT_POLICY="-") == f"{expected} -"


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [
        "from pipeline.cli import main; main(['--version'])",
        "from hmar.evaluate.__main__ import main; main(['--no-such-flag'])",
        "from hmar.train.__main__ import main; main(['--no-such-flag'])",
    ],
    ids=["cli", "evaluate", "train"],
)
def test_idle_threads_sleep_in_every_process_of_ours(start: str) -> None:
    """Said before torch, which reads it once, is there."""
    code = f"import sys; {start}; assert 'torch' not in sys.modules; import os; print(os.environ['OMP_WAIT_POLICY'])"
    assert told(code).endswith("PASSIVE")


@pytest.mark.slow
def test_a_pipeline_stage_gives_arrow_what_duckdb_has(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from pipeline.settings import EngineSettings
from pipeline.storage.engine import connect
import pyarrow as pa
with connect(EngineSettings(threads=3), Path({str(tmp_path)!r})) as connection:
    print(pa.cpu_count(), *connection.execute("select current_setting('threads')").fetchall()[0])
"""
    assert told(code) == "3 3"
