"""An ingest in a process of its own, to be killed.

``python -m tests.support.ingest_child RAW HOME [validate] [append]``
"""

import sys
from pathlib import Path

from pipeline.stages.ingest import land
from pipeline.stages.validate import validate
from tests.support.raw_logs import land_and_publish, settings

if __name__ == "__main__":
    raw, home, *rest = sys.argv[1:]
    mode = "append" if "append" in rest else "replace"
    chosen = settings("taobao", Path(raw), Path(home), ingest={"partition": "day", "mode": mode})
    if "validate" in rest:
        validate(chosen, land(chosen))
    else:
        land_and_publish(chosen)
