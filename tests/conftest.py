"""What every test may use, and what none may see: the settings and services of the person who runs them."""

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as properties
from xdist.scheduler import LoadScopeScheduling

CHECKOUT = Path(__file__).resolve().parent.parent
SERVERS = CHECKOUT / "tests" / "integration"

# Before anything imports torch, Airflow, MLflow or matplotlib: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "2")
# Threads that spin while they wait take the cores from the other processes: many times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["GX_ANALYTICS_ENABLED"] = "false"
os.environ["MPLBACKEND"] = "Agg"
_AIRFLOW_HOME = tempfile.mkdtemp(prefix="hmar-test-airflow-")
os.environ["AIRFLOW_HOME"] = _AIRFLOW_HOME
for _name in [name for name in os.environ if name.startswith(("HMAR_", "AIRFLOW__", "MLFLOW_TRACKING"))]:
    if _name != "HMAR_REAL_DATA":
        del os.environ[_name]

# What a property says does not depend on how fast the machine is just now.
properties.register_profile("patient", properties(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
properties.load_profile("patient")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(_AIRFLOW_HOME, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark by place and by need: tests/integration starts servers, the fixture real_data needs the research logs.

    Those that start servers come first, then files with slow tests, of these the ones that are given the most time; the
    many quick ones fill the gaps at the end, when several processes share them.
    """
    slow, patience = set(), dict[Path, float]()
    for item in items:
        if SERVERS in item.path.parents:
            item.add_marker(pytest.mark.integration)
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_data)
        if item.get_closest_marker("slow"):
            slow.add(item.path)
        for limit in item.iter_markers("timeout"):
            patience[item.path] = max(patience.get(item.path, 0), limit.args[0])
    items.sort(key=lambda i: (SERVERS not in i.path.parents, i.path not in slow, -patience.get(i.path, 0)))


class SaysAtOnce:
    """Names a test when it fails: a run that is cut short comes to no summary."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            where = str(getattr(report.longrepr, "reprcrash", "")).partition("\n")[0]
            terminal = self.config.pluginmanager.getplugin("terminalreporter")
            terminal.write_line(f"\nFAILED {report.nodeid} ({report.when}): {where}")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SaysAtOnce(config))


class Shares(LoadScopeScheduling):
    """What each of several processes runs: whole files, whose fixtures are then made once. All that starts servers is
    for one of them, one after another: servers are mostly waited for, and the others go on meanwhile. Of the pages of
    documentation each is by itself: they take minutes and share nothing."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        if SERVERS in (CHECKOUT / file).parents:
            return SERVERS.name
        return nodeid if name.startswith("test_all_commands_run_in_the_order_of_the_page[") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return Shares(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    from tests.support import warm

    # The few trainings of quick tests start cold: getting ready for warm ones takes longer.
    subprocess.Popen = warm.Popen if item.get_closest_marker("slow") else warm.COLD
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _same_environment_after() -> Iterator[None]:
    """A test that sets variables, or code under test that does, does not reach the next one."""
    before = dict(os.environ)
    yield
    for name in [name for name in os.environ if name not in before]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _same_logging_before() -> None:
    """What configures the root logger, as Airflow does on import, does not decide what the next test captures."""
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    root.handlers[:] = [one for one in root.handlers if type(one).__module__.startswith("_pytest.")]


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the source tree."""
    return CHECKOUT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of research logs; the test is skipped where it is absent."""
    folder = Path(os.environ.get("HMAR_REAL_DATA") or CHECKOUT.parent / "shared" / "data")
    if not (folder / "movielens").is_dir():
        pytest.skip(f"no research logs at {folder}; set HMAR_REAL_DATA")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty data directory."""
    return tmp_path / "home"


@pytest.fixture(scope="session")
def movielens_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated MovieLens log (u.data): 250 users, 160 films, about 8,000 clean rows. Do not write into it."""
    from pipeline.simulate import simulate

    out = tmp_path_factory.mktemp("raw") / "movielens"
    return simulate("movielens", out, users=250, items=160, seed=11, events_per_user=40)


@pytest.fixture(scope="session")
def movielens_latest_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same kind of log as CSV with header, half stars and tags. Do not write into it."""
    from pipeline.simulate import simulate

    out = tmp_path_factory.mktemp("raw") / "latest"
    return simulate("movielens", out, users=250, items=160, seed=12, events_per_user=40, layout="latest")


@pytest.fixture(scope="session")
def taobao_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated Taobao log: 300 users, 200 items, about 14,000 clean rows and some of every flaw, the last
    line cut. Do not write into it."""
    from pipeline.simulate import Dirt, simulate

    dirt = Dirt(duplicates=7, outside_window=5, unknown_codes=3, short_lines=2, cut_last_line=True)
    out = tmp_path_factory.mktemp("raw") / "taobao"
    return simulate("taobao", out, users=300, items=200, seed=13, events_per_user=45, dirt=dirt)
