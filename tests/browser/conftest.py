"""A real server on a free port of this machine, and Debian's Chromium in front of it."""

from __future__ import annotations

import os
import shutil
import threading
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from werkzeug.serving import make_server

from app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator

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
def address() -> Iterator[str]:
    """The address of the running application."""
    server = make_server("127.0.0.1", 0, create_app(), threaded=True)
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


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    """Opens pages; at the end none of them may have complained."""
    visitor = Visit(browser, address)
    yield visitor
    visitor.close()
    assert visitor.complaints == []


class Visit:
    """Pages of one visitor. What the browser's console complains about is collected."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser = browser
        self.address = address
        self.contexts: list[BrowserContext] = []
        self.complaints: list[str] = []

    def open(
        self, path: str = "/", *, width: int = 1440, dark: bool = False, script: bool = True, status: int = 200
    ) -> Page:
        """A page in a profile of its own."""
        context = self.browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            java_script_enabled=script,
            permissions=["clipboard-read", "clipboard-write"] if script else [],
        )
        context.set_default_timeout(20_000)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self._complain(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        reply = page.goto(path if path.startswith("http") else self.address + path)
        assert reply is not None
        assert reply.status == status
        return page

    def _complain(self, kind: str, text: str) -> None:
        refused = "400 (BAD REQUEST)" in text  # the browser logs every reply of that kind
        if kind in ("error", "warning") and not refused:
            self.complaints.append(text)

    def close(self) -> None:
        """Close everything that was opened."""
        for context in self.contexts:
            context.close()
