"""A real, headless Chromium for tests of pages: what it logs, asks for, lays out and prints."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

Scheme = Literal["light", "dark"]

PACKAGES = "chromium and chromium-driver (Debian: apt-get install chromium chromium-driver)"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    # A page that asks for another host is caught, and still reaches nothing.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


def missing_programs() -> list[str]:
    """Name the programs that a browser test needs and this machine lacks."""
    return [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]


class Browser:
    """One window; each `open` starts with empty logs.

    Args:
        driver: a Chromium that records its console and its network.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, url: str) -> None:
        """Load a page and wait until it is there."""
        self._driver.get("about:blank")
        self.requests()
        self.console()
        self._driver.get(url)

    def show(self, width: int, scheme: Scheme, media: str = "screen") -> None:
        """Lay the page out at `width` CSS pixels, in a colour scheme, for screen or print."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        wanted = {"media": media, "features": [feature]}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return what it returns."""
        return self._driver.execute_script(script, *arguments)

    def console(self) -> list[str]:
        """Return the errors and warnings on the console since the last call."""
        entries = self._driver.get_log("browser")
        return [e["message"] for e in entries if e["level"] in ("SEVERE", "WARNING")]

    def requests(self) -> list[str]:
        """Return the addresses asked for since the last call; inline data are not asked for."""
        events = [json.loads(e["message"])["message"] for e in self._driver.get_log("performance")]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        # What the browser's own start page asks itself for is not the page's.
        asked = [p["request"]["url"] for p in sent if not p["documentURL"].startswith("chrome:")]
        return [url for url in asked if not url.startswith(("data:", "about:"))]

    def pdf(self) -> bytes:
        """Print the page as its style sheet asks for."""
        printed = self._driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        return base64.b64decode(printed["data"])

    def screenshot(self, path: Path) -> None:
        """Write the whole page, as it is shown now, as a PNG."""
        width, height = self.run(
            "const e = document.documentElement; return [innerWidth, e.scrollHeight]"
        )
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        wanted = {"captureBeyondViewport": True, "clip": clip}
        taken = self._driver.execute_cdp_cmd("Page.captureScreenshot", wanted)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile in the folder `profile`, and end it.

    The programs of the Debian packages are used, and nothing is downloaded.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with pytest.MonkeyPatch.context() as patch:  # a proxy of the machine is not for the driver
        patch.setenv("NO_PROXY", "localhost,127.0.0.1")
        driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def page_count(pdf: bytes) -> int:
    """Count the pages of a PDF that Chromium wrote."""
    return len(re.findall(rb"/Type\s*/Page\b", pdf))
