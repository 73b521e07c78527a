"""Small made-up logs, and how to read them back."""

import csv
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.simulate import Dirt
from pipeline.simulate.formats import FORMATS

CASES = [(name, layout) for name, form in FORMATS.items() for layout in form.layouts]
"""Every format in every layout; an empty layout is the only one."""

FLAWS = {
    "duplicates": 11, "outside_window": 5, "far_future": 4, "zero_time": 3, "wrong_unit": 6, "unknown_codes": 7,
    "short_lines": 8, "cut_lines": 9, "cut_last_line": True, "shuffled_rows": 50,
}  # fmt: skip


def every_flaw(source: str, layout: str) -> Dirt:
    """Some of every flaw that makes sense there."""
    form = FORMATS[source]
    refused = {*form.refuses, *form.refuses_in.get(layout or form.layouts[0], {})}
    return Dirt.model_validate({flaw: count for flaw, count in FLAWS.items() if flaw not in refused})


def truth(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "truth.json").read_text(encoding="utf-8"))
    return content


def known(out: Path) -> dict[str, Any]:
    with np.load(out / "truth.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def digests(out: Path) -> dict[str, str]:
    """Checksum of every file, by its name within the log."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file()
    }


def log_files(out: Path) -> list[str]:
    """The files with rows, not what stands beside them."""
    told = truth(out)
    return sorted(set(told["files"]) - set(told["beside"]))


def lines(path: Path) -> list[str]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    return text.removesuffix("\n").split("\n")


def rows(path: Path, header: bool) -> Iterator[list[str]]:
    """The fields of a CSV file, the header left out."""
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream)
        if header:
            next(reader)
        yield from reader


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(path)]
