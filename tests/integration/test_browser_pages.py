"""The pages, in a browser: the DAG and its trigger form in Airflow, the registered model in MLflow."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.services import airflow
from pipeline.settings import preset_names
from tests.integration.conftest import Services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=arguments)
        page = browser.new_page(viewport={"width": 1400, "height": 1800})
        page.set_default_timeout(30_000)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def airflow_page(page: Any, sqlite_services: Services) -> Any:
    page.goto(sqlite_services.state.airflow)
    page.locator("input[name=username]").fill(airflow.USER)
    page.locator("input[name=password]").fill(airflow.password(sqlite_services.home))
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Dags").first.wait_for()
    return page


def test_the_pages_ask_for_the_password(page: Any, sqlite_services: Services) -> None:
    page.context.clear_cookies()
    page.goto(f"{sqlite_services.state.airflow}/dags/hmar_retrain")
    page.locator("input[name=password]").wait_for()


def test_trigger_form_shows_typed_fields(airflow_page: Any, sqlite_services: Services, tmp_path: Path) -> None:
    page = airflow_page
    page.goto(f"{sqlite_services.state.airflow}/dags/hmar_retrain")
    page.get_by_test_id("trigger-dag-button").first.click()
    form = page.locator("[role=dialog][data-state=open]")
    form.get_by_text("Trigger Dag - hmar_retrain").wait_for()
    # Required fields are asked for, and nothing can be started without them.
    form.get_by_text("This field is required").first.wait_for()
    assert form.get_by_role("button", name="Trigger", exact=True).is_disabled()
    form.locator("#element_dataset").click()
    assert page.get_by_role("option").all_inner_texts() == preset_names()
    page.get_by_role("option", name="movielens").click()
    form.locator("input[name=element_raw]").fill(str(tmp_path))
    form.get_by_role("button", name="Models").click()
    for name in ("hmar", "sasrec", "popularity", "recent"):
        form.get_by_text(name, exact=True).first.wait_for()
    assert form.locator("input[name=element_seed]").get_attribute("role") == "spinbutton"
    form.get_by_role("button", name="Stages").click()
    form.get_by_text("max_quarantined_share", exact=True).wait_for()
    assert form.get_by_role("button", name="Trigger", exact=True).is_enabled()


def test_the_run_stands_in_the_grid(airflow_page: Any, sqlite_services: Services, first_run: str) -> None:
    airflow_page.goto(f"{sqlite_services.state.airflow}/dags/hmar_retrain")
    for task_id in ("check", "snapshot", "report"):
        airflow_page.get_by_test_id(f"grid-{first_run}-{task_id}").wait_for()


def test_mlflow_shows_the_registered_model(page: Any, sqlite_services: Services, first_run: str) -> None:
    name = sqlite_services.api.result("hmar_retrain", first_run, "promote")["name"]
    page.goto(f"{sqlite_services.state.mlflow}/#/models/{name}")
    page.get_by_text(name).first.wait_for()
    page.get_by_text("champion").first.wait_for()
