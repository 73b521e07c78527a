"""docker-compose.yml says what Compose, Airflow and Docker understand, without an engine to try it on."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

HEALTHY, COMPLETED = "service_healthy", "service_completed_successfully"

_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "array", "items": _TEXT, "minItems": 1}
_COMMAND = {"anyOf": [_TEXT, _TEXTS]}
_DURATION = {"type": "string", "pattern": r"^(\d+(h|ms|m|s))+$"}
_STRICT = {"type": "object", "additionalProperties": False}

SCHEMA = {
    **_STRICT,
    "required": ["services"],
    "patternProperties": {"^x-": {}},
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-zA-Z0-9._-]+$"},
            "additionalProperties": {
                **_STRICT,
                "required": ["image"],
                "properties": {
                    "image": {"type": "string", "pattern": r"^[a-z0-9./-]+:[\w.-]*\d[\w.-]*$"},
                    "build": {
                        **_STRICT,
                        "properties": {
                            "context": _TEXT,
                            "dockerfile": _TEXT,
                            "args": {"type": "object", "additionalProperties": _TEXT},
                        },
                    },
                    "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
                    "command": _COMMAND,
                    "entrypoint": _COMMAND,
                    "profiles": _TEXTS,
                    "stop_grace_period": _DURATION,
                    "shm_size": {"type": "string", "pattern": r"^\d+[bkmg]b?$"},
                    # Only text: YAML would hand over true or 1 where a program expects its own spelling.
                    "environment": {"type": "object", "additionalProperties": {"type": "string"}},
                    "ports": {"type": "array", "items": {"pattern": r"^127\.0\.0\.1:\d+:\d+$", "type": "string"}},
                    "volumes": _TEXTS,
                    "configs": {
                        "type": "array",
                        "items": {**_STRICT, "properties": {"source": _TEXT, "target": _TEXT}},
                    },
                    "healthcheck": {
                        **_STRICT,
                        "required": ["test"],
                        "properties": {
                            "test": {**_TEXTS, "prefixItems": [{"enum": ["CMD", "CMD-SHELL"]}]},
                            "interval": _DURATION,
                            "timeout": _DURATION,
                            "start_period": _DURATION,
                            "retries": {"type": "integer", "minimum": 1},
                        },
                    },
                    "depends_on": {
                        "type": "object",
                        "additionalProperties": {
                            **_STRICT,
                            "required": ["condition"],
                            "properties": {"condition": {"enum": [HEALTHY, COMPLETED]}},
                        },
                    },
                    "deploy": {
                        **_STRICT,
                        "properties": {
                            "resources": {
                                **_STRICT,
                                "properties": {
                                    "reservations": {
                                        **_STRICT,
                                        "properties": {
                                            "devices": {
                                                "type": "array",
                                                "items": {
                                                    **_STRICT,
                                                    "required": ["capabilities"],
                                                    "properties": {
                                                        "driver": _TEXT,
                                                        "count": {"type": "integer", "minimum": 1},
                                                        "capabilities": _TEXTS,
                                                    },
                                                },
                                            }
                                        },
                                    }
                                },
                            }
                        },
                    },
                },
            },
        },
        "configs": {"type": "object", "additionalProperties": {**_STRICT, "properties": {"content": _TEXT}}},
        "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
    },
}
"""The part of the Compose specification that the file uses, and what we ask for: pinned images, loopback ports."""


@pytest.fixture(scope="module")
def text(checkout: Path) -> str:
    return (checkout / "docker-compose.yml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def compose(text: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def test_follows_the_schema(compose: dict[str, Any]) -> None:
    errors = jsonschema.Draft202012Validator(SCHEMA).iter_errors(compose)
    assert [f"{'.'.join(map(str, e.path))}: {e.message}" for e in errors] == []


def test_compose_itself_accepts_it(checkout: Path, tmp_path: Path) -> None:
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker compose is not installed")
    env = tmp_path / "env"
    env.write_text(re.sub(r"=$", "=word", (checkout / "docker/env.example").read_text(), flags=re.MULTILINE))
    command = ["docker", "compose", "--env-file", str(env), "--profile", "*", "config", "--quiet"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_waits_only_for_what_there_is_to_wait_for(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, f"{name} waits for {needed}"
            if how["condition"] == HEALTHY:
                assert "healthcheck" in services[needed], f"{name} waits for the health of {needed}, which has none"
            else:
                assert services[needed].get("restart") != "unless-stopped", f"{needed} never completes"
    assert set(services["airflow-init"]["depends_on"]) == {"postgres"}


def test_named_volumes_and_configs_are_declared(compose: dict[str, Any]) -> None:
    used = {v.split(":")[0] for s in compose["services"].values() for v in s.get("volumes", []) if v[0] not in "./$"}
    assert used == set(compose["volumes"])
    named = {c["source"] for s in compose["services"].values() for c in s.get("configs", [])}
    assert named == set(compose["configs"])


def test_every_variable_is_in_the_example_and_every_secret_is_required(text: str, checkout: Path) -> None:
    example = (checkout / "docker/env.example").read_text(encoding="utf-8")
    offered = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", example, flags=re.MULTILINE))
    used = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text))
    assert used <= set(offered)
    assert set(offered) - used == {"COMPOSE_PROFILES"}
    secrets = {name for name, value in offered.items() if not value}
    assert secrets == {name for name in used if re.search(rf"\$\{{{name}:\?", text)}
    assert not re.search(rf"\$\{{({'|'.join(secrets)})(?!:\?)", text), "a secret without ':?' may be empty"


def test_both_schedulers_are_the_same_but_for_the_device(compose: dict[str, Any]) -> None:
    cpu, gpu = (dict(compose["services"][name]) for name in ("airflow-scheduler", "airflow-scheduler-gpu"))
    assert (cpu.pop("profiles"), gpu.pop("profiles")) == (["cpu"], ["gpu"])
    devices = gpu.pop("deploy")["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert cpu == gpu


def test_airflow_knows_every_option(compose: dict[str, Any]) -> None:
    from airflow.configuration import conf

    for service in compose["services"].values():
        for variable in service.get("environment", {}):
            if variable.startswith("AIRFLOW__"):
                _, section, key = variable.lower().split("__")
                known = conf.configuration_description.get(section, {}).get("options", {})
                assert key in known, variable


def test_the_bundle_is_the_directory_of_the_image(compose: dict[str, Any], checkout: Path) -> None:
    environment = compose["services"]["airflow-dag-processor"]["environment"]
    (bundle,) = json.loads(environment["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert bundle["kwargs"]["path"] == "/opt/hmar/dags"
    dockerfile = (checkout / "docker/Dockerfile").read_text(encoding="utf-8")
    assert "COPY dags /opt/hmar/dags" in dockerfile


def test_the_image_copies_what_exists_and_what_the_context_has(checkout: Path) -> None:
    dockerfile = (checkout / "docker/Dockerfile").read_text(encoding="utf-8")
    ignored = (checkout / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sources = [
        word for line in re.findall(r"^COPY (.*)$", dockerfile, flags=re.MULTILINE) for word in line.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (checkout / source).exists(), source
        assert f"!{source}" in ignored, f"{source} is not in the build context"


def test_the_image_has_the_torch_of_the_makefile(checkout: Path) -> None:
    wanted = re.search(r"^TORCH := torch==(\S+)", (checkout / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    built = re.search(r"^ARG TORCH=(\S+)", (checkout / "docker/Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert wanted
    assert built
    assert wanted[1] == built[1]
