"""Airflow's REST API, as much of it as is used here."""

import time
from collections.abc import Mapping
from typing import Any, Self

import httpx

from hmar.errors import ServiceError, SettingsError


class AirflowClient:
    """Talks to one Airflow.

    Args:
        address: for example http://127.0.0.1:8080.
        user, password: of its simple auth manager; both empty where no login is asked for.
    """

    def __init__(self, address: str, user: str = "", password: str = "") -> None:
        self.address = address.rstrip("/")
        self._user, self._password = user, password
        # A proxy in the environment is for the world outside, not for this machine.
        local = httpx.URL(self.address).host in ("127.0.0.1", "localhost", "::1")
        self._http = httpx.Client(base_url=self.address, timeout=30, trust_env=not local)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """What stands at ``path`` of the API."""
        return self._request("GET", path, params=query)

    def health(self) -> dict[str, str]:
        """State of each component that has one: healthy, unhealthy."""
        answer = self._request("GET", "/api/v2/monitor/health", login=False)
        return {name: str(part["status"]) for name, part in answer.items() if part and part.get("status")}

    def dag_is_ready(self, dag_id: str) -> bool:
        """Whether the DAG has been parsed and stored."""
        found = self._http_request("GET", f"/api/v2/dags/{dag_id}")
        return found.status_code == httpx.codes.OK and not found.json().get("is_stale", False)

    def import_errors(self) -> dict[str, str]:
        """Broken DAG files and the last line of their errors."""
        answer = self._request("GET", "/api/v2/importErrors")
        return {one["filename"]: one["stack_trace"].strip().splitlines()[-1] for one in answer["import_errors"]}

    def set_pool(self, name: str, slots: int, description: str) -> None:
        """Create the pool or change its size."""
        changed = {"pool": name, "slots": slots, "description": description, "include_deferred": False}
        answer = self._http_request("PATCH", f"/api/v2/pools/{name}", json=changed)
        if answer.status_code == httpx.codes.NOT_FOUND:
            changed["name"] = changed.pop("pool")
            answer = self._http_request("POST", "/api/v2/pools", json=changed)
        self._checked(answer)

    def trigger(self, dag_id: str, conf: Mapping[str, Any]) -> str:
        """Start a run; returns its id.

        Raises:
            SettingsError: Airflow refused the conf; its reason is in the message.
        """
        answer = self._http_request("POST", f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})
        if answer.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY):
            raise SettingsError(_reason(answer))
        return str(self._checked(answer)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """queued, running, success, failed."""
        return str(self._request("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The run's task instances, mapped ones included."""
        found = self._request("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances", params={"limit": 200})
        return list(found["task_instances"])

    def result(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Any:
        """What the task instance returned; None if it has not."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        found = self._http_request("GET", path, params={"map_index": map_index})
        return None if found.status_code == httpx.codes.NOT_FOUND else self._checked(found)["value"]

    def errors(self, dag_id: str, run_id: str, instance: Mapping[str, Any]) -> list[str]:
        """What the latest attempt of a task instance raised, the first cause first."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{instance['task_id']}/logs"
        options = {"map_index": instance["map_index"], "full_content": True}
        content = self._request("GET", f"{path}/{max(1, instance['try_number'])}", params=options)["content"]
        details = [line.get("error_detail") or [] for line in content if isinstance(line, dict)]
        return [_said(one) for detail in details for one in reversed(detail)]

    def _request(self, method: str, path: str, *, login: bool = True, **options: Any) -> Any:
        return self._checked(self._http_request(method, path, login=login, **options))

    def _checked(self, response: httpx.Response) -> Any:
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ServiceError(f"airflow at {self.address}: refused user {self._user!r}; check the password")
        if response.is_error:
            raise ServiceError(f"airflow at {self.address}: {response.status_code} {_reason(response)}")
        return response.json()

    def _http_request(self, method: str, path: str, *, login: bool = True, **options: Any) -> httpx.Response:
        try:
            if login and "Authorization" not in self._http.headers:
                self._login()
            response = self._http.request(method, path, **options)
            if login and response.status_code == httpx.codes.UNAUTHORIZED:  # the token has run out
                self._login()
                response = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise ServiceError(f"airflow at {self.address}: does not answer ({type(error).__name__})") from None
        return response

    def _login(self) -> None:
        if self._user:
            answer = self._http.post("/auth/token", json={"username": self._user, "password": self._password})
        else:
            answer = self._http.get("/auth/token")
        token = self._checked(answer)["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"


def wait_until_ready(client: AirflowClient, dag_ids: list[str], deadline: float, alive: Any) -> None:
    """Wait until scheduler and DAG processor are healthy and the DAGs are there.

    Args:
        deadline: on the monotonic clock.
        alive: called without arguments each time; raises if waiting has become useless.

    Raises:
        ServiceError: too slow, or a DAG file is broken.
    """
    missing: str = "the API"
    while time.monotonic() < deadline:
        alive()
        try:
            health = client.health()
            sick = [name for name in ("metadatabase", "scheduler", "dag_processor") if health.get(name) != "healthy"]
            if not sick:
                broken = client.import_errors()
                if broken:
                    file, error = next(iter(broken.items()))
                    raise _Broken(f"airflow: {file} cannot be imported: {error}")
                absent = [dag_id for dag_id in dag_ids if not client.dag_is_ready(dag_id)]
                if not absent:
                    return
                sick = [f"DAG {absent[0]}"]
            missing = sick[0]
        except _Broken:
            raise
        except ServiceError as error:
            missing = str(error)
        time.sleep(0.5)
    raise ServiceError(f"airflow: still waiting for {missing}; the logs stand in the data directory under services/")


class _Broken(ServiceError):
    retryable = False


def _said(error: Mapping[str, Any]) -> str:
    """One exception of a log. Those of Airflow only wrap a message of ours that names its kind itself."""
    own = str(error["exc_type"]) in ("AirflowException", "AirflowFailException")
    return str(error["exc_value"]) if own else f"{error['exc_type']}: {error['exc_value']}"


def _reason(response: httpx.Response) -> str:
    """What the API says is wrong, in one line."""
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return response.text.strip()[:300]
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, one.get('loc', [])))}: {one.get('msg')}" for one in detail)
    if isinstance(detail, dict):
        detail = detail.get("message") or detail.get("reason") or str(detail)
    lines = [line.strip() for line in str(detail).splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"
