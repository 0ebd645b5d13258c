"""The page in a real browser, and who may not read it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from benchmarks.serving.made_site import install, make_export, make_site
from client.serving.feedback import Event, FeedbackStore
from client.serving.page.answers import PageAnswers
from client.serving.page.app import page_app
from client.serving.page.guard import MAX_BODY, Logins
from client.serving.page.run import _bound
from client.serving.recommending import SiteRecommender
from client.serving.served import Served, WhatToServe
from client.serving.words import words_sentence
from tests.browser import Browser
from tests.client.serving.conftest import CONFIG, DATASET
from tests.page_checks import FAULTS, LEAST_TEXT, SCHEMES, WIDTHS, assert_page_is_sound

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

HOSTILE = "<img src=x onerror=\"document.title='broken'\">&amp; <b>bold</b>"


class Page:
    """A page that is served, and what was told in its terminal."""

    def __init__(self, recommender: SiteRecommender, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.logins, self.told = Logins(), 0
        self.app = page_app(PageAnswers(recommender), self.logins, self._tell)

    def _tell(self) -> None:
        self.told += 1

    @property
    def link(self) -> str:
        return f"{self.address}/#{self.logins.code}"

    def client(self) -> httpx.Client:
        """Somebody who opened the link."""
        code = self.logins.code
        session = httpx.post(f"{self.address}/api/login", json={"code": code}).json()["session"]
        return httpx.Client(
            base_url=self.address, headers={"Authorization": f"Bearer {session}"}, timeout=60
        )


@contextmanager
def served_page(recommender: SiteRecommender) -> Iterator[Page]:
    with closing(_bound(0)) as listener:
        page = Page(recommender, listener.getsockname()[1])
        server = uvicorn.Server(uvicorn.Config(page.app, log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield page
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def shown(shared_site: Path) -> Served:
    return WhatToServe(shared_site, as_of="test", with_facts=True, with_words=True).load()


@pytest.fixture(scope="module")
def user(shown: Served) -> str:
    return next(iter(shown.histories.users))


@pytest.fixture
def page(shown: Served) -> Iterator[Page]:
    with served_page(SiteRecommender(shown)) as page:
        yield page


def test_lists_and_reasons_are_those_of_the_service(page: Page, shown: Served, user: str) -> None:
    with page.client() as ask:
        site = ask.get("/api/site").json()
        assert (site["items"], site["ways"]) == (80, ["mmr", "calibrated", "cap"])
        asked = {"user": user, "k": 5, "policy": "mmr:0.9"}
        found = ask.post("/api/lists", json=asked).json()
        recommender = SiteRecommender(shown)
        offers = recommender.recommend(user, 5).offers
        assert [item["item_id"] for item in found["greedy"]["items"]] == [o.item_id for o in offers]
        assert found["chosen"]["distance"] > found["greedy"]["distance"]
        assert found["chosen"]["score"] < found["greedy"]["score"]
        assert found["history"]["length"] == len(recommender.asker(user).history)
        ids = [offer.item_id for offer in offers]
        told = ask.post("/api/reasons", json={"user": user, "item_ids": ids}).json()
        whole = recommender.explain(user, ids[0], 2).sentence
        assert told[ids[0]].startswith("Scores ")
        assert whole.endswith(told[ids[0]][1:])
        words = ask.post("/api/words", json={"user": user, "item_id": ids[0]}).json()["told"]
        assert words == words_sentence(recommender.words(user, ids[0], 3))
        none = ask.post("/api/words", json={"user": user, "item_id": "none"})
        assert (none.status_code, "item 'none'" in none.json()["error"]) == (404, True)
        title = shown.items.title(7)
        titles = ask.get("/api/titles", params={"q": title[:-1].upper()}).json()
        assert {"item_id": shown.items.item_ids[7], "title": title} in titles


def test_feedback_of_a_running_service_is_seen(shown: Served, tmp_path: Path) -> None:
    store, item = FeedbackStore(tmp_path), DATASET.catalogue.item_ids[4]
    asked = {"user": "somebody new", "k": 50, "policy": "cap:0.1"}
    recommender = SiteRecommender(shown, FeedbackStore(tmp_path))
    with served_page(recommender) as page, page.client() as ask:
        assert ask.post("/api/lists", json=asked).status_code == 404
        store.record(Event("r", "somebody new", item, "taken", 1, ""))
        assert ask.post("/api/lists", json=asked).json()["history"]["length"] == 1


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"user": "nobody"}, 404, "User “nobody” is not known at this site"),
        ({"user": "  "}, 400, "Type a user's id"),
        ({"items": ["none"]}, 404, "item 'none'"),
        ({"k": 0}, 400, "k: "),
        ({"policy": "mmr:2"}, 400, "got 'mmr:2'"),
        ({"policy": "best"}, 400, "got 'best'"),
        ({"other": 1}, 400, "other: "),
        ([], 400, "valid dictionary"),
    ],
)
def test_a_wrong_request_is_told_in_one_line(
    page: Page, asked: object, status: int, words: str
) -> None:
    with page.client() as ask:
        answer = ask.post("/api/lists", json=asked)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_only_who_opened_the_link_may_read(page: Page, user: str) -> None:
    link, asked = page.logins.code, {"user": user}
    with page.client() as ask:
        assert page.told == 1
        assert page.logins.code != link
        assert httpx.post(f"{page.address}/api/login", json={"code": link}).status_code == 403
        assert httpx.post(f"{page.address}/api/login", json=[link]).status_code == 403
        broken = '{"code": "\\ud800"}'
        as_json = {"Content-Type": "application/json"}
        answer = httpx.post(f"{page.address}/api/login", content=broken, headers=as_json)
        assert answer.status_code == 403
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {link}"}):
            for path in ("/api/site", "/api/titles?q=a", "/api/lists", "/docs", "/nothing"):
                answer = httpx.request(
                    "POST" if path == "/api/lists" else "GET",
                    page.address + path,
                    headers=headers,
                    content=json.dumps(asked) if path == "/api/lists" else None,
                )
                assert answer.status_code == 401, path
        for headers, status in (
            ({"Host": "evil.example"}, 421),
            ({"Host": "127.0.0.1.evil.example"}, 421),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "http://127.0.0.1:1"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Content-Type": "text/plain"}, 415),
        ):
            answer = ask.post("/api/lists", headers=headers, content=json.dumps(asked))
            assert answer.status_code == status, headers
        assert ask.post("/api/lists", content=b" " * (MAX_BODY + 1)).status_code == 413
        ported = ask.post("/api/lists", headers={"Host": "localhost:1"}, json=asked)
        assert ported.status_code == 200  # a tunnel ends at another port


def test_every_answer_holds_the_page_together(page: Page) -> None:
    for path in ("/", "/page.css", "/page.js", "/api/site"):
        headers = httpx.get(page.address + path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert "set-cookie" not in headers
        assert "server" not in headers or headers["server"] == "uvicorn"


@pytest.fixture
def hostile_page(tmp_path: Path) -> Iterator[Page]:
    """Every title is markup."""
    texts = tuple(f"{HOSTILE} {place}" for place in range(len(DATASET.catalogue)))
    catalogue = type(DATASET.catalogue)(DATASET.catalogue.item_ids, texts, DATASET.catalogue.genres)
    dataset = type(DATASET)(**{**vars(DATASET), "catalogue": catalogue})
    site = make_site(dataset, CONFIG, tmp_path / "sites")
    install(make_export(dataset, CONFIG, tmp_path, 3), site, dataset, CONFIG)
    with served_page(SiteRecommender(WhatToServe(site, with_facts=True).load())) as page:
        yield page


@pytest.mark.slow
@pytest.mark.e2e
def test_an_operator_sees_lists_reasons_and_the_policy_s_effect(
    page: Page, browser: Browser, user: str, shown: Served
) -> None:
    browser.open(page.link)
    wait(browser, "return !document.getElementById('form').hidden")
    assert browser.run("return location.hash") == ""
    submit(browser)
    assert "Type a user’s id" in text(browser, "fault")
    fill(browser, "user", "nobody")
    submit(browser)
    wait(browser, "return document.getElementById('fault').textContent.includes('nobody')")
    fill(browser, "user", user)
    submit(browser)
    wait(browser, SHOWN)
    offers = SiteRecommender(shown).recommend(user, 10).offers
    titles = "return [...document.querySelectorAll('#greedy .title')].map(t => t.firstChild.data)"
    assert browser.run(titles) == [offer.title for offer in offers]
    assert "Lists for user" in text(browser, "whose")
    assert "unlike items" in text(browser, "other-name")
    wait(browser, "return document.querySelector('#greedy .why').textContent.includes('Scores')")
    browser.run("document.querySelector('#greedy .words').click()")
    wait(browser, "return document.querySelector('#greedy .told')?.textContent.includes('Words')")
    (fault,) = browser.console()  # of the user who is not known
    assert "404" in fault
    for width in WIDTHS:
        for scheme in SCHEMES:
            browser.show(width, scheme)
            assert browser.run(FAULTS, LEAST_TEXT) == [], (width, scheme)


@pytest.mark.slow
@pytest.mark.e2e
def test_the_page_is_sound_and_a_session_ends(page: Page, browser: Browser) -> None:
    assert_page_is_sound(browser, page.link)
    browser.open(page.address)  # the session is the tab's
    wait(browser, "return !document.getElementById('form').hidden")
    page.logins._sessions.clear()
    fill(browser, "user", "1")
    submit(browser)
    wait(browser, "return !document.getElementById('locked').hidden")
    assert "This session is over" in text(browser, "locked")


@pytest.mark.slow
@pytest.mark.e2e
def test_titles_are_chosen_with_the_keyboard_and_never_markup(
    hostile_page: Page, browser: Browser
) -> None:
    browser.open(hostile_page.link)
    wait(browser, "return !document.getElementById('form').hidden")
    browser.run("document.querySelector('input[value=titles]').click()")
    for word in ("onerror", "bold"):
        fill(browser, "title", word)
        wait(browser, "return !document.getElementById('found').hidden")
        key(browser, "title", "ArrowDown")
        assert browser.run("return document.querySelectorAll('[aria-selected=true]').length") == 1
        key(browser, "title", "Enter")
    assert browser.run("return document.querySelectorAll('#chosen li').length") == 2
    submit(browser)
    wait(browser, SHOWN)
    assert "<img src=x" in text(browser, "greedy")
    assert browser.run("return document.querySelectorAll('img, b').length") == 0
    assert browser.run("return document.title") == "Recommendations at this site"
    fill(browser, "title", "no such title")
    wait(browser, "return document.getElementById('fault').textContent.includes('No title has')")
    assert browser.console() == []


SHOWN = "return !document.getElementById('results').hidden"


def wait(browser: Browser, script: str) -> None:
    end = time.monotonic() + 30
    while not browser.run(script):
        assert time.monotonic() < end, browser.run("return document.body.innerText")
        time.sleep(0.02)


def fill(browser: Browser, name: str, value: str) -> None:
    browser.run(
        "const f = document.getElementById(arguments[0]); f.value = arguments[1];"
        "f.dispatchEvent(new Event('input', {bubbles: true}))",
        name,
        value,
    )


def key(browser: Browser, name: str, pressed: str) -> None:
    browser.run(
        "document.getElementById(arguments[0]).dispatchEvent("
        "new KeyboardEvent('keydown', {key: arguments[1], bubbles: true}))",
        name,
        pressed,
    )


def submit(browser: Browser) -> None:
    browser.run("document.querySelector('button[type=submit]').click()")


def text(browser: Browser, name: str) -> str:
    found: str = browser.run("return document.getElementById(arguments[0]).innerText", name)
    return found
