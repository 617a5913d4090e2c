"""The page in a real browser: what is chosen is shown, what is moved changes it, and nothing on it can run."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("uvicorn", reason="needs uvicorn (extra: serve)")
pytest.importorskip("playwright.sync_api", reason="needs playwright (extra: dev)")

import uvicorn
from playwright import sync_api as playwright

from llmrec.inference.live.store.event_store import EventStore
from llmrec.inference.live.store.stored_events import NewEvent
from llmrec.recommender import Recommender
from llmrec.service.app import create_app
from llmrec.service.server import LOCAL
from llmrec.service.settings import ServiceSettings

if TYPE_CHECKING:
    from llmrec.data.log import Log

EVIL = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


@pytest.fixture
def address(load: Callable[[], Recommender], tmp_path: Path) -> Iterator[str]:
    """Of a service with a page, and an item and a user whose names are markup."""
    recommender, store = load(), EventStore(f"sqlite:///{tmp_path / 'state.db'}")
    app = create_app(recommender, ServiceSettings(page=True, hosts=LOCAL), store)
    engine = app.state.service.engine
    engine.add_items([{"item_id": EVIL, "title": f"space war {EVIL}"}])
    engine.replica.append([NewEvent(EVIL, "i1", 1893456000), NewEvent(EVIL, EVIL, 1893456001)])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    """Opened, with everything collected that it complains of or asks of elsewhere."""
    with playwright.sync_playwright() as browsers:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        try:
            options = ["--no-sandbox"] if os.getuid() == 0 else []
            browser = browsers.chromium.launch(executable_path=chromium, args=options)
        except playwright.Error as error:
            pytest.skip(f"needs Chromium (apt-get install chromium, or playwright install chromium): {error}")
        opened = browser.new_page()
        opened.set_default_timeout(60_000)
        opened.troubles = []
        opened.on("console", lambda message: opened.troubles.append(message.text))
        opened.on("pageerror", lambda error: opened.troubles.append(str(error)))
        opened.on("request", lambda sent: sent.url.startswith(address) or opened.troubles.append(sent.url))
        opened.goto(address)
        opened.wait_for_selector("#items li")
        yield opened
        browser.close()


def shown(page: Any, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


def wait_until_other(page: Any, selector: str, before: list[str]) -> list[str]:
    for _ in range(600):
        if (now := shown(page, selector)) and now != before:
            return now
        page.wait_for_timeout(100)
    raise AssertionError(f"{selector} stays {before}")


@pytest.mark.slow
def test_the_page(page: Any, address: str, log: Log) -> None:
    # It begins with the user who came last; what is written there is text.
    assert EVIL in shown(page, "#users li")[0]
    assert EVIL in shown(page, "#history li")[0]
    assert page.locator("img, #history script, #users script").count() == 0
    assert page.title() == "llmrec"
    policy = page.request.get(address).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy

    # A user, and now.
    user = str(log.user_ids[3])
    items = shown(page, "#items li")
    page.fill("#user-words", user)
    page.click(f"#users button:has-text('{user}')")
    items = wait_until_other(page, "#items li", items)
    page.wait_for_selector(f"#history-head:has-text('{user}')")
    states = shown(page, "#states > div")
    assert len(states) == 4
    page.locator("#now").fill("0")
    wait_until_other(page, "#items li", items)
    assert shown(page, "#states > div") != states
    assert page.locator("#history li.later").count() == 5
    assert "after event 1 of 6" in page.inner_text("#when")

    # Why.
    page.click("#items li:first-child button")
    page.wait_for_selector("dialog[open]")
    assert shown(page, "#why-terms > div")
    assert page.inner_text("#why-sentence")
    page.keyboard.press("Escape")

    # A history of one's own.
    page.click("#tab-history")
    page.fill("#item-words", "space war")
    page.click("#found li:first-child button")
    page.wait_for_selector("#history li")
    assert EVIL in shown(page, "#history li")[0]
    assert page.locator("#history img").count() == 0

    # A new item.
    page.fill("#text", "a robot love story in space")
    page.click("#audience-form button")
    page.wait_for_selector("#audience table")
    assert len(shown(page, "#audience tr")) == 13
    assert page.title() == "llmrec"
    assert page.troubles == []

    # On a phone nothing sticks out.
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
