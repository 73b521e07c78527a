"""The public surface: what people and schedules depend on by name. ``python -m tests.support.surface`` rewrites
tests/public_surface.txt; the difference in review is the decision to grow it, shrink it or break it."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
FILE = CHECKOUT / "tests" / "public_surface.txt"


def lines() -> Iterator[str]:
    """One name per line, grouped by headings."""
    from pipeline.cli import COMMANDS

    calls = {f"hmar {name}": ["pipeline.cli", name] for name in COMMANDS}
    calls |= {f"python -m {module}": [module] for module in ("hmar.train", "hmar.evaluate")}
    with ThreadPoolExecutor(4) as pool:
        helps = dict(zip(calls, pool.map(_help, calls.values()), strict=True))
    for name, text in sorted(helps.items()):
        yield f"[{name}]"
        yield from _flags(text)
    for dag, names in _params().items():
        yield f"[dag {dag}]"
        yield from sorted(names)
    yield "[metrics]"
    yield from _metrics()
    yield "[exit codes]"
    yield from _exit_codes()


def _help(arguments: list[str]) -> str:
    module, *rest = arguments
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", module, *rest, "--help"],
        cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _flags(help_text: str) -> list[str]:
    """The flags that a help text describes, not the ones that it mentions."""
    described = re.findall(r"^ {2}(-\S.*?)(?: {2}.*)?$", help_text, re.M)
    flags = {flag for line in described for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9.-]*", line)}
    return sorted(flags - {"--help"})


def _params() -> dict[str, list[str]]:
    sys.path.insert(0, str(CHECKOUT / "dags"))
    try:
        import hmar_benchmark
        import hmar_ingest
        import hmar_retrain
        import hmar_tune
    finally:
        sys.path.pop(0)
    return {
        "hmar_benchmark": ["file", *hmar_benchmark.FIELDS],
        "hmar_ingest": list(hmar_ingest.form.fields(hmar_ingest.FIELDS)),
        "hmar_retrain": list(hmar_retrain.hmar_retrain.params),
        "hmar_tune": list(hmar_tune.FIELDS),
    }


def _metrics() -> list[str]:
    from hmar.data.snapshot import PARTS
    from hmar.evaluate import names

    ranks = [names.full_name(*parts) for parts in product(PARTS, names.CANDIDATES, names.STRATA, names.RANK_METRICS)]
    lists = [names.full_name(part, "full", "all", metric) for part, metric in product(PARTS, names.LIST_METRICS)]
    shown = product(PARTS, ("impressions",), names.IMPRESSION_STRATA, names.IMPRESSION_METRICS)
    return sorted(ranks + lists + [names.full_name(*one) for one in shown])


def _exit_codes() -> list[str]:
    from hmar import errors

    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.HmarError)]
    return sorted(f"{kind.exit_code} {kind.__name__}" for kind in kinds)


def text() -> str:
    return "\n".join(lines()) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"{FILE.relative_to(CHECKOUT)}: {len(FILE.read_text(encoding='utf-8').splitlines())} lines")
