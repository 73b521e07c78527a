"""Builds the snapshot of events that are published in a home, as a process of its own that a test can kill.

``python -m tests.support.build_snapshot HOME [largest file in bytes] [threads]``; prints ``ready`` before it begins
and the snapshot's id when it is done; a deliberate error is one line on stderr and its exit code.
"""

import resource
import sys
from pathlib import Path

from hmar.errors import HmarError
from pipeline.results import Published
from pipeline.stages.snapshot import build
from pipeline.storage.events_store import read_manifest
from tests.support.tiny_snapshot import snapshot_run


def main(home: str, largest_file: str = "0", threads: str = "2") -> int:
    s = snapshot_run(Path(home), threads=int(threads), candidates=20)
    events = s.paths.events(s.name)
    manifest = read_manifest(events)
    if int(largest_file):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest_file), int(largest_file)))
    print("ready", flush=True)
    try:
        built = build(s, Published(events=events, digest=manifest.digest, accounts=manifest.accounts))
    except HmarError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(built.id, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
