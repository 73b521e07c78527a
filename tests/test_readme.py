"""The README and docs/ are executed: commands run, settings files resolve, links lead somewhere.

Every ```bash block follows a comment that says how it is checked: ``<!-- run: fast -->`` and
``<!-- run: slow -->`` blocks run here, in order, in one fresh directory per page; ``<!-- run: ci -->`` blocks are
make targets that .ci/run runs; ``<!-- run: no, REASON -->`` is for what needs another machine.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from hmar.errors import SettingsError
from pipeline import schedules
from pipeline.settings import RetrainSettings
from tests.conftest import CHECKOUT

PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md")), *(CHECKOUT / "benchmarks").glob("*.md")]
FENCE = re.compile(r"(?:^<!-- run: (?P<how>[^>]*?) -->\n)?^```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    page: Path
    line: int
    kind: str
    how: str
    body: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, m.start()) + 1, m["kind"], m["how"] or "", m["body"])
        for m in FENCE.finditer(text)
    ]


def named(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


def commands(body: str) -> list[str]:
    """Lines of a block that do something, continuation lines joined."""
    joined = body.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_says_how_it_is_checked(page: Path) -> None:
    for block in blocks(page):
        if block.kind in ("bash", "sh", "console"):
            assert block.how.split(",")[0] in ("fast", "slow", "ci", "no"), f"{named(page)}:{block.line}: {block.how!r}"
            assert not block.how.startswith("no") or len(block.how) > 10, f"{named(page)}:{block.line}: no reason given"


def run_in_order(page: Path, kinds: tuple[str, ...], directory: Path) -> int:
    """Execute the page's blocks of these kinds as a reader would, in one shell session per block; how many ran."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HMAR_", "AIRFLOW"))}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    environment["PYTHONPATH"] = str(CHECKOUT)
    environment["COLUMNS"] = "160"
    ran = 0
    for block in blocks(page):
        if block.kind != "bash" or block.how.split(",")[0] not in kinds:
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.body],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{named(page)}:{block.line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        ran += 1
    return ran


def test_fast_commands_of_the_readme_run(tmp_path: Path) -> None:
    assert run_in_order(CHECKOUT / "README.md", ("fast",), tmp_path) >= 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES, ids=named)
def test_all_commands_run_in_the_order_of_the_page(page: Path, tmp_path: Path) -> None:
    wanted = [b for b in blocks(page) if b.kind == "bash" and b.how.split(",")[0] in ("fast", "slow")]
    assert run_in_order(page, ("fast", "slow"), tmp_path) == len(wanted)


def test_make_targets_in_the_readme_are_what_ci_runs() -> None:
    ci = (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8")
    targets = {
        command.split()[1]
        for block in blocks(CHECKOUT / "README.md")
        if block.how == "ci"
        for command in commands(block.body)
        if command.startswith("make ")
    }
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^step \d+ {target}$", ci, re.M), f"make {target} is not in .ci/run"


def test_every_make_target_that_is_mentioned_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.M))
    for page in PAGES:
        for target in re.findall(r"`(?:[A-Z_]+=\S+ )*make ([a-z-]+)", page.read_text(encoding="utf-8")):
            assert target in targets, f"{named(page)}: make {target}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_settings_files_on_the_page_resolve(page: Path) -> None:
    for block in blocks(page):
        if block.kind != "yaml":
            continue
        values = yaml.safe_load(block.body)
        for key in schedules.KEYS:
            values.pop(key, None)
        settings = RetrainSettings.resolve(values, use_environment=False)
        assert settings.dataset == values["dataset"]


def test_a_wrong_settings_file_would_be_noticed() -> None:
    with pytest.raises(SettingsError, match="did you mean 'models'"):
        RetrainSettings.resolve({"dataset": "taobao", "raw": "x", "modles": ["hmar"]}, use_environment=False)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{named(page)}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{named(page)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_code_names_on_the_page_exist(page: Path) -> None:
    """A path in backticks that looks like one of ours is one of ours."""
    for path in re.findall(r"`((?:hmar|pipeline|sql|dags|tests|benchmarks|docs)/[\w./-]+)`", page.read_text("utf-8")):
        assert (CHECKOUT / path).exists(), f"{named(page)}: `{path}`"
