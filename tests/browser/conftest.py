"""A real server on a free port of this machine, and Debian's Chromium in front of it."""

from __future__ import annotations

import os
import re
import shutil
import threading
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from werkzeug.serving import make_server

from app import create_app
from tests.app.hub.headers import small
from tests.hub_server import HubServer, Repo, running

if TYPE_CHECKING:
    from collections.abc import Iterator

QUANTIZATIONS = {"Q3_K_M": 350 << 20, "Q4_K_M": 450 << 20, "Q8_0": 850 << 20}
"""Of the model on the Hub, with the bytes of their files."""

LOOKS = tuple(
    pytest.param(width, dark, id=f"{width}-{'dark' if dark else 'light'}")
    for width, dark in ((1440, False), (768, True), (390, False))
)
"""Widths of screens, and whether they are dark: no width depends on that."""

SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    """The Hub that the application asks: ``org/small-GGUF`` in three quantizations."""
    with running() as server:
        files = {f"small-{label}.gguf": small(size) for label, size in QUANTIZATIONS.items()}
        server.repos["org/small-GGUF"] = Repo({**files, "mmproj-F16.gguf": small()})
        yield server


@pytest.fixture(scope="session")
def address(hub: HubServer) -> Iterator[str]:
    """The address of the running application."""
    app = create_app({"HUB_ENDPOINT": hub.endpoint, "HUB_CACHE_BYTES": 0})
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; without it the tests are skipped, but in CI they fail."""
    path = shutil.which("chromium")
    if path is None:
        reason = "there is no chromium: install Debian's package of that name"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=SWITCHES)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def profiles(browser: Browser, address: str) -> Profiles:
    """Of that browser and application."""
    return Profiles(browser, address)


@pytest.fixture
def visit(profiles: Profiles, address: str) -> Iterator[Visit]:
    """Opens pages; at the end none of them may have complained."""
    visitor = Visit(profiles, address)
    yield visitor
    visitor.close()
    assert visitor.complaints == []


class Profiles:
    """Profiles of which nothing is left but the files that the browser keeps: to read those again takes longest."""

    def __init__(self, browser: Browser, address: str) -> None:
        self._browser = browser
        self._address = address
        self._free: dict[bool, list[BrowserContext]] = {True: [], False: []}

    def take(self, *, script: bool) -> BrowserContext:
        """One that nobody uses."""
        if self._free[script]:
            return self._free[script].pop()
        permissions = ["clipboard-read", "clipboard-write"] if script else []
        context = self._browser.new_context(java_script_enabled=script, permissions=permissions)
        context.set_default_timeout(20_000)
        return context

    def give(self, context: BrowserContext, *, script: bool) -> None:
        """It is not used any more."""
        page = context.pages[0]
        context.new_cdp_session(page).send(
            "Storage.clearDataForOrigin", {"origin": self._address, "storageTypes": "all"}
        )
        for each in context.pages:
            each.close()
        context.clear_cookies()
        self._free[script].append(context)


class Visit:
    """Pages of one visitor. What the browser's console complains about is collected."""

    def __init__(self, profiles: Profiles, address: str) -> None:
        self.address = address
        self.complaints: list[str] = []
        self._profiles = profiles
        self._taken: list[tuple[BrowserContext, bool]] = []

    def open(
        self, path: str = "/", *, width: int = 1440, dark: bool = False, script: bool = True, status: int = 200
    ) -> Page:
        """A page in a profile of its own."""
        context = self._profiles.take(script=script)
        self._taken.append((context, script))
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.on("console", lambda message: self._complain(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        reply = page.goto(path if path.startswith("http") else self.address + path)
        assert reply is not None
        assert reply.status == status
        return page

    def _complain(self, kind: str, text: str) -> None:
        refused = re.search(r"status of (400|404) ", text)  # the browser logs every reply of that kind
        if kind in ("error", "warning") and not refused:
            self.complaints.append(text)

    def close(self) -> None:
        """Close everything that was opened."""
        for context, script in self._taken:
            self._profiles.give(context, script=script)
