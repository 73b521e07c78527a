"""DuckDB as every stage has it."""

import subprocess
import sys
from pathlib import Path


def test_it_draws_no_bars_even_where_python_has_no_script(tmp_path: Path) -> None:
    """``python -c`` is a person's session to DuckDB: of a statement that takes seconds it shows how far it is."""
    code = (
        "import duckdb\n"
        "from pathlib import Path\n"
        "from pipeline.settings import EngineSettings\n"
        "from pipeline.storage.engine import connect\n"
        "asked = \"select current_setting('enable_progress_bar')\"\n"
        "print(duckdb.connect().execute(asked).fetchall())\n"
        f"with connect(EngineSettings(), Path({str(tmp_path)!r})) as connection, connection.cursor() as other:\n"
        "    print(connection.execute(asked).fetchall(), other.execute(asked).fetchall())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[(True,)]", "[(False,)]", "[(False,)]"]
