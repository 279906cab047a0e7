"""The admin's pages in Chromium, as the people who use them see them. Pictures of all of them: .local/screenshots."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import axe_core_python
import httpx
import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, TimeoutException
from selenium.webdriver import Keys
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from admin import passwords
from admin.identity import Role
from admin.ledger import users
from database.ledger import connected, open_pool
from local import ports, provision
from local.services import Service
from local.stack import Stack
from pipeline.clients import Client, ClientId
from tests.browser import chromium
from tests.integration.syncer_scene import Scene, eventually, open_scene

PASSWORD = "correct horse battery"
RUN = "20260101T0500-hourly"
LONG_NAME = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft GmbH & Co. KG"
SECONDS = 30
SHOTS = Path(__file__).parents[2] / ".local" / "screenshots"
AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """The admin and a syncer on a ledger of their own."""

    scene: Scene
    url: str
    client: Client
    """One that exists, has events in the ledger and was delivered once."""
    failing: Client
    """One with long names, whose key is wrong."""


@pytest.fixture(scope="module")
async def office(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    chromium.require()
    folder = tmp_path_factory.mktemp("office")
    async with open_scene(stack) as scene, open_pool(scene.dsn, max_size=1) as pool:
        for role in Role:
            async with connected(pool) as connection:
                await users.put(connection, role.value, role, await passwords.hashed(PASSWORD))
        client = await scene.add_client(name="Cedar Clinic")
        await scene.add_objects(client)
        names = {"name": LONG_NAME, "client_s3_prefix": "events/of/our/shops/in/all/countries/of/the/continent/"}
        failing = await scene.add_client(**names, client_s3_access_key="AKIAISNOTTHERE000001")
        chosen = ports.choose(("admin", "syncer"), {})
        running = [Service(name, scene.environment, port, folder / f"{name}.log") for name, port in chosen.items()]
        for service in running:
            await service.start()
            await eventually(lambda at=service: _is_ready(at), seconds=60)
        admin, _ = running
        await scene.send(*({"client_id": each.client_id, "run_key": RUN} for each in (client, failing)))
        for each, status in ((client, "finished"), (failing, "failed")):
            await eventually(lambda of=each, at=status: _has_ended(scene, of, at), seconds=60)
        yield Office(scene=scene, url=admin.url, client=client, failing=failing)
        for service in running:
            await service.stop()


async def _is_ready(service: Service) -> bool:
    async with httpx.AsyncClient() as http:
        try:
            return (await http.get(f"{service.url}/readyz")).status_code == 200
        except httpx.TransportError:
            return False


async def _has_ended(scene: Scene, client: Client, status: str) -> bool:
    rows = await scene.execute("SELECT status FROM pipeline.sync_runs WHERE client_id = %s", client.client_id)
    return rows == [(status,)]


class Page:
    """What a person does with a window."""

    def __init__(self, browser: WebDriver, url: str) -> None:
        self.browser = browser
        self._url = url

    def open(self, path: str) -> None:
        self.browser.get(self._url + path)

    def log_in(self, role: Role) -> None:
        self.open("/login")
        self.type("name", role.value)
        self.type("password", PASSWORD)
        self.press("Log in")
        self.until(lambda: self.path != "/login", "a page behind the login")

    @property
    def path(self) -> str:
        return str(self.browser.current_url).removeprefix(self._url)

    @property
    def text(self) -> str:
        return self.browser.find_element(By.TAG_NAME, "main").text

    def field(self, name: str) -> WebElement:
        return next(item for item in self.browser.find_elements(By.NAME, name) if item.is_displayed())

    def type(self, name: str, text: str) -> None:
        field = self.field(name)
        field.clear()
        field.send_keys(text)

    def press(self, label: str) -> None:
        quoted = f"normalize-space()={label!r}"
        button = self.browser.find_element(By.XPATH, f"//button[{quoted}] | //a[{quoted}] | //summary[{quoted}]")
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def tick(self, id_: str) -> None:
        box = self.browser.find_element(By.ID, id_)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
        box.click()

    def until(self, condition: Callable[[], Any], what: str) -> None:
        changing = (StaleElementReferenceException, NoSuchElementException)
        try:
            WebDriverWait(self.browser, SECONDS, ignored_exceptions=changing).until(lambda _: condition())
        except TimeoutException:
            raise AssertionError(f"{what}; the page says:\n{self.text}") from None

    def until_said(self, words: str) -> None:
        self.until(lambda: words in self.text, f"{words!r}")

    def focused(self) -> str:
        element = self.browser.switch_to.active_element
        return str(element.get_attribute("name") or element.text or element.tag_name)

    def picture(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.browser.save_screenshot(str(SHOTS / f"{name}.png"))

    def serious_findings(self) -> list[str]:
        self.browser.execute_script(AXE)
        found = self.browser.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}).then(done, e => done({error: '' + e}));"
        )
        assert "error" not in found, found
        return [
            f"{item['id']}: {node['target']} {node['failureSummary']}"
            for item in found["violations"]
            if item["impact"] in ("serious", "critical")
            for node in item["nodes"]
        ]

    def too_wide(self, width: int) -> list[str]:
        """What reaches over the right edge, if the page can be scrolled there."""
        return list(
            self.browser.execute_script(
                "if (document.documentElement.scrollWidth <= arguments[0]) return [];"
                "const right = (e) => Math.round(e.getBoundingClientRect().right);"
                "return [...document.querySelectorAll('body *')].filter(e => right(e) > arguments[0])"
                ".map(e => `${e.tagName}.${e.className} ends at ${right(e)}`);",
                width,
            )
        )

    def complaints(self) -> list[str]:
        """What the browser wrote to its console: refused scripts and styles, failed requests.

        A refresh that is under way when a person leaves the page is no failure, though htmx tells of it.
        """
        told = [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]
        return [text for text in told if "htmx:sendAbort" not in text and "htmx:afterRequest" not in text]


@pytest.fixture(scope="module")
def desk(office: Office) -> Iterator[Page]:
    """An admin at a desk."""
    with chromium.window() as browser:
        page = Page(browser, office.url)
        page.log_in(Role.ADMIN)
        yield page


@pytest.mark.timeout(180)
async def test_a_person_adds_a_client_reads_why_its_key_fails_mends_it_and_sees_the_delivery(
    office: Office, desk: Page
) -> None:
    scene = office.scene
    bucket = "to-maple"
    await provision.ensure_bucket(scene.stack.aws, bucket)
    statement = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    policy = provision.policy_document([statement])
    key = await provision.ensure_user(scene.stack.aws, bucket, None, policy=policy)

    desk.open("/clients")
    desk.press("New client")
    desk.type("client_id", "maple hill")
    desk.field("client_id").send_keys(Keys.TAB)
    desk.until(lambda: desk.field("client_id").get_attribute("aria-invalid"), "the id is refused as it is typed")
    desk.type("client_id", "maple")
    desk.type("name", "Maple Hill")
    desk.tick("level-hipaa")
    desk.until_said("[REDACTED:free_text]")
    desk.tick("level-gdpr")
    desk.until(lambda: "[REDACTED:free_text]" not in desk.text, "the preview follows the level")
    desk.tick("sync_enabled")
    desk.type("client_s3_bucket", bucket)
    desk.type("client_s3_region", "us-east-1")
    desk.tick("access-keys")
    desk.type("client_s3_access_key", key.key_id)
    desk.type("client_s3_secret_key", "this-is-not-the-secret")
    if not desk.browser.find_element(By.NAME, "client_s3_endpoint_url").is_displayed():
        desk.press("Endpoint, encryption, owner")
    desk.type("client_s3_endpoint_url", scene.stack.aws.endpoint_url)
    desk.press("Test connection")
    desk.until_said("secret key")
    desk.until(lambda: "✕" in desk.browser.find_element(By.ID, "connection").text, "the step that failed")
    desk.picture("test-connection-failed")
    desk.type("client_s3_secret_key", key.secret)
    desk.press("Test connection")
    desk.until(lambda: "✕" not in desk.browser.find_element(By.ID, "connection").text, "every step succeeds")
    desk.picture("test-connection")
    desk.press("Create client")
    desk.until(lambda: desk.path.startswith("/clients/maple"), "the client's page")
    assert key.secret not in desk.browser.page_source

    stored = await scene.store.get(ClientId("maple"))
    assert isinstance(stored, Client)
    version = stored.pseudonym_keys[-1]
    assert version.version == 1
    events = await scene.add_objects(office.client, events=5)
    assert len(events) == 5
    await scene.execute(
        "UPDATE pipeline.processed_objects SET client_id = 'maple', policy_version = 'other'"
        " WHERE events = 5 AND client_id = %s",
        office.client.client_id,
    )
    desk.press("Sync now")
    desk.until(lambda: "✓" in desk.browser.find_element(By.TAG_NAME, "table").text, "a finished delivery")
    desk.picture("client-delivered")
    desk.browser.find_element(By.CSS_SELECTOR, "table a").click()
    desk.until(lambda: "/deliveries/" in desk.path, "the delivery's page")
    desk.until_said("events/dt=")
    assert "5" in desk.text
    desk.picture("delivery")
    assert not desk.complaints()


def test_a_viewer_sees_everything_and_can_change_nothing(office: Office) -> None:
    with chromium.window() as browser:
        page = Page(browser, office.url)
        page.log_in(Role.VIEWER)
        page.open("/clients")
        assert "Cedar Clinic" in page.text
        assert "New client" not in page.text
        page.open(f"/clients/{office.client.client_id}")
        for label in ("Sync now", "Pause deliveries", "Edit"):
            assert label not in page.text
        # And not by a form that the page doesn't have.
        status = browser.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "const token = document.querySelector('meta[name=form-token]').content;"
            "fetch(arguments[0], {method: 'POST', headers: {'X-Form-Token': token}}).then(a => done(a.status));",
            f"/clients/{office.client.client_id}/sync",
        )
        assert status == 403


def test_everything_is_reached_by_the_keyboard_alone(office: Office) -> None:
    with chromium.window() as browser:
        page = Page(browser, office.url)
        page.open("/login")
        keys = browser.switch_to
        assert page.focused() == "name"
        keys.active_element.send_keys(Role.ADMIN.value, Keys.TAB)
        assert page.focused() == "password"
        keys.active_element.send_keys(PASSWORD, Keys.ENTER)
        page.until(lambda: page.path == "/", "the first page")
        page.open("/clients")
        browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
        assert page.focused() == "Skip to content"
        _tab_to(page, "New client")
        keys.active_element.send_keys(Keys.ENTER)
        page.until(lambda: page.path == "/new-client", "the form")
        _tab_to(page, "client_id")
        keys.active_element.send_keys("by-keyboard", Keys.TAB, "By Keyboard")
        _tab_to(page, "privacy_level")
        keys.active_element.send_keys(Keys.ARROW_DOWN)
        _tab_to(page, "Create client")
        keys.active_element.send_keys(Keys.ENTER)
        page.until(lambda: page.path.startswith("/clients/by-keyboard"), "the new client's page")


def _tab_to(page: Page, name: str) -> None:
    for _ in range(80):
        if page.focused() == name:
            return
        page.browser.switch_to.active_element.send_keys(Keys.TAB)
    raise AssertionError(f"{name} is not reached by Tab")


PATHS = {
    "overview": "/",
    "clients": "/clients",
    "client": "/clients/{client}",
    "client-failing": "/clients/{failing}",
    "client-edit": "/clients/{client}/edit",
    "client-new": "/new-client",
    "deliveries": "/clients/{client}/deliveries",
    "delivery-done": "/clients/{client}/deliveries/{run}",
    "delivery-failed": "/clients/{failing}/deliveries/{run}",
    "quarantine": "/quarantine",
    "replays": "/replays",
    "audit": "/audit",
    "audit-verified": "/audit/verify",
    "not-found": "/clients/nobody",
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("look", ["desk", "desk-dark", "phone", "phone-dark"])
def test_every_page_is_accessible_and_fits_a_desk_and_a_phone(office: Office, look: str) -> None:
    size = chromium.PHONE if look.startswith("phone") else chromium.DESK
    with chromium.window(size, dark=look.endswith("dark")) as browser:
        page = Page(browser, office.url)
        page.open("/login")
        page.picture(f"login-{look}")
        findings = {"login": page.serious_findings()}
        page.log_in(Role.ADMIN)
        for name, path in PATHS.items():
            ids = {"client": office.client.client_id, "failing": office.failing.client_id}
            page.open(path.format(**ids, run=RUN))
            findings[name] = page.serious_findings()
            findings[name] += page.too_wide(size[0])
            height = min(4000, browser.execute_script("return document.documentElement.scrollHeight"))
            metrics = {"width": size[0], "height": height, "deviceScaleFactor": 1, "mobile": size == chromium.PHONE}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            page.picture(f"{name}-{look}")
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        assert not [found for found in findings.values() if found], json.dumps(findings, indent=1)
        refused = [line for line in page.complaints() if "404" not in line]
        assert not refused


def test_an_idle_page_keeps_its_figures_fresh(office: Office, desk: Page) -> None:
    desk.open("/")
    first = desk.text
    started = time.monotonic()
    desk.until(lambda: desk.text != first, "newer figures")
    assert time.monotonic() - started < SECONDS


def test_search_narrows_the_list_as_it_is_typed(office: Office, desk: Page) -> None:
    desk.open("/clients")
    desk.field("q").send_keys("cedar clinic")
    desk.until(lambda: len(desk.browser.find_elements(By.CSS_SELECTOR, "tbody tr")) == 1, "one client")
    assert "Cedar Clinic" in desk.text


def test_frequency_of_deliveries_is_kept(office: Office, desk: Page) -> None:
    desk.open(f"/clients/{office.client.client_id}/edit")
    Select(desk.browser.find_element(By.ID, "sync_frequency")).select_by_value("weekly")
    desk.press("Save")
    desk.until(lambda: not desk.path.endswith("/edit"), "the client's page")
    assert "weekly" in desk.text
