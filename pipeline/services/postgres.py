"""A PostgreSQL cluster of our own in the data directory, for Airflow's database, where the programs are installed."""

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from hmar.errors import ServiceError
from pipeline.services.daemon import Daemon, stop
from pipeline.services.ports import HOST, choose

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
USER = "hmar"
DATABASE = "airflow"


class Postgres:
    """The cluster below ``directory`` (``postgres/``), its password beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "postgres"
        self.secret = directory / "postgres.password"
        self.daemon = Daemon("postgres", directory)

    def exists(self) -> bool:
        """Whether the cluster was made already."""
        return self.secret.exists() and (self.secret.stat().st_size > 0)

    def start(self, port: int | None) -> int:
        """Make the cluster if there is none, start it if it does not run; returns its port.

        Raises:
            ServiceError: no programs or driver, or they refuse; one line says what.
        """
        programs = find_programs()
        if not self.exists():
            self._initialize(programs)
        if self.daemon.process() and port:
            return port
        chosen = choose(0, port)
        command = [str(programs / "postgres"), "-D", str(self.data), "-p", str(chosen)]
        options = {"listen_addresses": HOST, "unix_socket_directories": "", "max_connections": "100"}
        for key, value in options.items():
            command += ["-c", f"{key}={value}"]
        self.daemon.start(command, _environment(), user=_unprivileged())
        self._wait(chosen)
        return chosen

    def stop(self) -> int:
        """Shut it down (SIGINT: rolls back, disconnects, no recovery needed); returns how many processes there were."""
        return stop([self.daemon], first=signal.SIGINT)

    def uri(self, port: int, database: str = DATABASE) -> str:
        """SQLAlchemy's address of a database in the cluster."""
        password = self.secret.read_text(encoding="utf-8").strip()
        return f"postgresql+psycopg://{USER}:{password}@{HOST}:{port}/{database}"

    def _initialize(self, programs: Path) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        user = _unprivileged()
        if user:
            shutil.chown(self.data, user)
        password = secrets.token_hex(16)
        with tempfile.NamedTemporaryFile("w") as word:  # mode 0600, and not in a directory that is root's alone
            word.write(password + "\n")
            word.flush()
            if user:
                shutil.chown(word.name, user)
            made = subprocess.run(
                [
                    str(programs / "initdb"), "-D", str(self.data), "-U", USER, f"--pwfile={word.name}",
                    "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C",
                ],
                env=_environment(), user=user, cwd="/", capture_output=True, text=True,
            )  # fmt: skip
        if made.returncode:
            shutil.rmtree(self.data, ignore_errors=True)
            words = made.stderr.strip().splitlines() or ["no message"]
            raise ServiceError(f"postgres: initdb in {self.data}: {words[-1]}")
        self.secret.touch(mode=0o600)
        self.secret.write_text(password + "\n", encoding="utf-8")

    def _wait(self, port: int, seconds: float = 30) -> None:
        import psycopg

        address = self.uri(port, "postgres").replace("+psycopg", "")
        deadline = time.monotonic() + seconds
        while True:
            try:
                with psycopg.connect(address, autocommit=True, connect_timeout=5) as connection:
                    with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                        connection.execute(f"create database {DATABASE}")
                    return
            except psycopg.OperationalError as error:
                if self.daemon.process() is None or time.monotonic() > deadline:
                    words = self.daemon.last_words(1) or str(error)
                    raise ServiceError(f"postgres: does not answer ({words}); its log is {self.daemon.log}") from None
                time.sleep(0.2)


def find_programs() -> Path:
    """The directory with initdb and postgres.

    Raises:
        ServiceError: they, or the driver psycopg, are not installed.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise ServiceError("postgres: the driver psycopg is not installed; pip install 'hmar[postgres]'")
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    for place in PLACES:
        found = sorted(Path("/").glob(f"{place.lstrip('/')}/initdb"))
        if found:
            return found[-1].parent
    raise ServiceError("postgres: initdb is not on the path; install PostgreSQL or use --database sqlite")


def _unprivileged() -> str | None:
    """PostgreSQL refuses to run as root: somebody else's name, then."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


def _environment() -> dict[str, str]:
    """The cluster needs nothing of ours."""
    return {key: value for key, value in os.environ.items() if key in ("PATH", "TZ")} | {"LC_ALL": "C"}
