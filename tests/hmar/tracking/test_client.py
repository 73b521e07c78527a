"""Reaching a store, and saying quickly why not."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmar.errors import ServiceError, SettingsError
from hmar.tracking.client import check, connect, public, sqlite_file
from tests.support.training import blank_store


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_an_existing_store_answers_and_the_process_points_at_it(tmp_path: Path) -> None:
    import mlflow

    uri = blank_store(tmp_path / "mlflow.db")
    client = connect(uri)
    assert client.search_experiments()[0].name == "Default"
    assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == uri


def test_a_closed_port_is_a_service_error_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(ServiceError, match=r"http://127\.0\.0\.1:9.*check that it runs") as caught:
        connect("http://127.0.0.1:9")
    assert time.monotonic() - started < 5
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 69


def test_a_server_that_never_answers_is_given_up_within_seconds(silent_server: str) -> None:
    started = time.monotonic()
    with pytest.raises(ServiceError, match="timed out"):
        connect(silent_server)
    assert time.monotonic() - started < 15


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 100, encoding="utf-8")
    with pytest.raises(ServiceError, match="not a database"):
        connect(f"sqlite:///{path}")
    assert path.read_text(encoding="utf-8").startswith("dear diary")


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ServiceError, match=r"file.*mlflow\.db"):
        connect(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}")


@pytest.mark.parametrize("uri", ["", "mlruns", "ftp://host", "sqlite://mlflow.db", "file:///tmp/x"])
def test_other_addresses_are_bad_settings(uri: str) -> None:
    with pytest.raises(SettingsError, match=r"tracking\.uri"):
        check(uri)


def test_a_password_is_not_shown() -> None:
    uri = "postgresql+psycopg://hmar:se:cret@127.0.0.1:9/mlflow"
    assert "se:cret" not in public(uri)
    assert public("http://host:5000") == "http://host:5000"


def test_sqlite_file() -> None:
    assert sqlite_file("sqlite:////a/b.db") == Path("/a/b.db")
    assert sqlite_file("http://host") is None
