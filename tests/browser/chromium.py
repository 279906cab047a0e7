"""Chromium and its driver, from the system's packages: `python -m tests.browser.chromium` installs them where it may.

`make test` runs it; where neither they nor apt are there, the browser tests are skipped, but never in CI.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

DESK = (1280, 900)
PHONE = (390, 844)
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-device-scale-factor=1")


def find() -> tuple[str, str] | None:
    """The paths of the browser and of its driver."""
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def require() -> None:
    """Skip the test where there is no browser; CI has one and must use it."""
    if find() is None:
        assert not os.environ.get("CI"), "CI has Chromium and its driver and must use them"
        pytest.skip("Chromium is not there: apt-get install chromium chromium-driver, or make test as root")


def install() -> int:
    """Install both by apt unless they are there. Always 0: a machine without them runs the other tests."""
    if find():
        return 0
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        print("Chromium is not there: the browser tests are skipped")  # noqa: T201 - for a person
        return 0
    quiet = {"capture_output": True, "check": False, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    packages = ("apt-get", "-qq", "install", "-y", "--no-install-recommends", "chromium", "chromium-driver")
    if subprocess.run(packages, **quiet).returncode:  # type: ignore[call-overload]
        subprocess.run(("apt-get", "-qq", "update"), **quiet)  # type: ignore[call-overload]
        subprocess.run(packages, **quiet)  # type: ignore[call-overload]
    if find() is None:
        print("apt does not give Chromium: the browser tests are skipped")  # noqa: T201 - for a person
    return 0


@contextmanager
def window(size: tuple[int, int] = DESK, *, dark: bool = False) -> Iterator[webdriver.Chrome]:
    """A browser of its own, without a session."""
    found = find()
    assert found is not None
    options = webdriver.ChromeOptions()
    options.binary_location, driver = found
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if size == PHONE:
        metrics = {"width": size[0], "height": size[1], "pixelRatio": 1, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        browser.set_window_size(*size)
        if dark:
            feature = {"name": "prefers-color-scheme", "value": "dark"}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        yield browser
    finally:
        browser.quit()


if __name__ == "__main__":
    sys.exit(install())
