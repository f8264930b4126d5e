"""The owner's page in a real browser: Debian's chromium and chromium-driver."""

from __future__ import annotations

import http.server
import os
import shutil
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pantry.operations.service import page_link
from tests.service.calling import Line, make_app
from tests.service.running import Service, free_port, starting, wait_until

webdriver = pytest.importorskip("selenium.webdriver")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="no browser or no driver for it: make test-tools"),
]
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("page") / "home", {"PANTRY_NOTIFY": "false"})
    service.add_echo("echo")
    service.add_echo("json", reply='{"name":"fox"}')
    with starting(service):
        yield service


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.add_argument("--headless=new")
    options.add_argument("--disable-dev-shm-usage")
    if os.getuid() == 0:
        options.add_argument("--no-sandbox")  # its sandbox does not run as root
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(service: Service, browser: Any) -> Any:
    """The page, logged in, after its first look."""
    browser.get("about:blank")
    browser.get(page_link(service.paths))
    wait_until(lambda: shown(browser, "#room"), 15)
    return browser


def all_of(browser: Any, selector: str) -> list[Any]:
    found: list[Any] = browser.find_elements("css selector", selector)
    return found


def shown(browser: Any, selector: str) -> bool:
    return any(each.is_displayed() for each in all_of(browser, selector))


def card(browser: Any, word: str) -> Any:
    """The card that has a word, once it is there."""
    find = "return [...document.querySelectorAll('.card')].find(each => each.innerText.includes(arguments[0]))"
    wait_until(lambda: browser.execute_script(find, word), 15)
    return browser.execute_script(find, word)


def press(browser: Any, word: str, verb: str) -> None:
    """Press a button of a card with the keyboard; found and focused in one step, since the page draws cards anew."""
    from selenium.webdriver import ActionChains

    focus = (
        "const card = [...document.querySelectorAll('.card')].find(each => each.innerText.includes(arguments[0]));"
        "const button = card?.querySelector(`[data-verb='${arguments[1]}']`);"
        "button?.focus();"
        "return Boolean(button) && document.activeElement === button"
    )
    wait_until(lambda: browser.execute_script(focus, word, verb), 15)
    ActionChains(browser).send_keys("\ue007").perform()


def test_link_logs_in_once_and_leaves_no_secret_in_the_address(service: Service, browser: Any) -> None:
    link = page_link(service.paths)
    browser.get(link)
    wait_until(lambda: shown(browser, "#room"), 15)
    assert browser.current_url == f"http://127.0.0.1:{service.port}/ui/"
    assert browser.execute_script("return document.cookie") == ""
    browser.find_element("id", "logout").click()
    wait_until(lambda: shown(browser, "#door"), 15)
    browser.get(link)
    wait_until(lambda: "used already" in browser.find_element("id", "door").text, 15)


def test_request_arrives_is_approved_and_the_app_learns_of_it(service: Service, page: Any) -> None:
    key = make_app(service.paths, "Notes", "session", "request-load")
    with Line(service) as line:
        line.value("unload_llm", {"model": "json"})
        asked = line.value("load_llm", {"model": "json"}, key=key)["request"]
        line.send("wait_request", {"request": asked["id"], "timeout": 20})
        assert "Notes wants to load json (" in card(page, "wants to load json").text
        wait_until(lambda: page.title == "(1) Pantry")
        said = page.find_element("id", "said")
        assert "Notes wants to load json" in said.get_attribute("textContent")
        press(page, "wants to load json", "approve")
        assert line.read()["value"]["state"] == "done"
    assert card(page, "of memory").text.startswith("json")
    wait_until(lambda: page.title == "Pantry", 15)
    wait_until(lambda: shown(page, "#answered-box"), 15)
    page.find_element("css selector", "#answered-box summary").click()
    wait_until(lambda: "Notes wants to load json – allowed" in page.find_element("id", "answered").text, 15)


def test_limits_of_an_approval_are_sent(service: Service, page: Any) -> None:
    with Line(service) as line:
        key = line.value("register_app", {"name": "Limited"})["key"]
        line.value("request_permissions", {"permissions": ["session"], "reason": "To sum up"}, key=key)
        mine = card(page, "Limited asks for")
        mine.find_element("css selector", "summary").click()
        for name, value in (("models", "echo, js*"), ("days", "30"), ("tokens", "500")):
            mine.find_element("name", name).send_keys(value)
        mine.find_element("css selector", '[data-verb="approve"]').click()

        def granted() -> bool:
            told = line.value("whoami")
            return told["permissions"] == ["session"] and told["tokens_per_day"] == 500

        wait_until(granted, 10)
        limits = line.value("whoami")["limits"]["session"]
        assert limits["models"] == ["echo", "js*"]
        assert limits["expires_at"] is not None


def test_names_and_reasons_of_strangers_stay_text(service: Service, page: Any) -> None:
    with Line(service) as line:
        key = line.value("register_app", {"name": HOSTILE})["key"]
        reason = "Harmless \u202egnp.exe\u200b <script>document.title='owned'</script>"
        line.value("request_permissions", {"permissions": ["session"], "reason": reason}, key=key)
    text = card(page, "asks for the permission").text
    assert HOSTILE in text
    assert "‹U+202E›gnp.exe‹U+200B› <script>" in text
    assert page.title != "owned"
    assert not all_of(page, "main img, main script")


def test_app_is_trimmed_and_removed_after_a_question(service: Service, page: Any) -> None:
    key = make_app(service.paths, "Passing", "session", "view")
    press(page, "Passing", "withdraw-view")
    wait_until(lambda: service.ask("GET", "/v1/models", key=key)[0] == 403, 10)
    press(page, "Passing", "remove")
    wait_until(lambda: shown(page, "#sure"), 5)
    assert page.switch_to.active_element.text == "Keep"
    page.switch_to.active_element.send_keys("\ue007")
    assert service.ask("GET", "/v1/models", key=key)[0] == 403
    press(page, "Passing", "remove")
    page.find_element("id", "sure-yes").click()
    wait_until(lambda: service.ask("GET", "/v1/models", key=key)[0] == 401, 10)


def test_what_is_typed_outlives_the_looks(service: Service, page: Any) -> None:
    key = make_app(service.paths, "Typed", "session")
    service.ask("POST", "/admin/load", {"model": "echo"})
    field = card(page, "Typed").find_element("name", "tokens")
    field.send_keys("123")
    with Line(service) as line:
        line.value("call_llm", {"preferred_model": "echo", "prompt": "a b"}, key=key)
    looks = "return performance.getEntriesByName(new URL('/admin/overview', location.href).href).length"
    before = page.execute_script(looks)
    wait_until(lambda: page.execute_script(looks) >= before + 2, 15)
    assert field.get_attribute("value") == "123"


def test_model_is_unloaded(service: Service, page: Any) -> None:
    service.ask("POST", "/admin/load", {"model": "echo"})
    press(page, "echo\n", "unload")
    wait_until(lambda: not [x for x in service.ask("GET", "/admin/loaded")[1]["loaded"] if x["name"] == "echo"], 10)


def test_service_that_ends_is_told_and_a_new_one_asks_for_a_login(tmp_path: Path, browser: Any) -> None:
    own = Service(tmp_path / "own")
    with starting(own):
        browser.get(page_link(own.paths))
        wait_until(lambda: shown(browser, "#apps-empty"), 15)
    wait_until(lambda: "does not answer" in browser.find_element("id", "connection").text, 15)


class _Evil(http.server.BaseHTTPRequestHandler):
    """A page of another origin (another port: the same site) that tries to use the login."""

    script: str = ""

    def do_GET(self) -> None:
        body = f"<!doctype html><title>evil</title><iframe id=f></iframe><script>{self.script}</script>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def evil() -> Iterator[Callable[[str], str]]:
    """Serve a script on a page of another port; its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), _Evil)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def serve(script: str) -> str:
        _Evil.script = script
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    server.shutdown()
    server.server_close()
    thread.join()


ATTEMPTS = {
    "read": "fetch(A+'/admin/overview',{credentials:'include'}).then(r=>r.text())",
    "post": "fetch(A+'/admin/unload',{method:'POST',mode:'no-cors',credentials:'include',"
    'body:\'{"model":"json"}\'}).then(r=>r.text())',
    "call": "fetch(A+'/call',{method:'POST',mode:'no-cors',body:'{\"function\":\"handshake\"}'}).then(r=>r.text())",
    "window.ai": "fetch(A+'/completions',{method:'POST',headers:{'X-API-KEY':K},body:'{\"prompt\":\"a\"}'})"
    ".then(r=>r.text())",
    "openai": "fetch(A+'/v1/models',{headers:{Authorization:'Bearer '+K}}).then(r=>r.text())",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_page_of_another_port_gets_nothing_though_the_cookie_is_sent(
    service: Service, page: Any, evil: Callable[[str], str], attempt: str
) -> None:
    service.ask("POST", "/admin/load", {"model": "json"})
    own = f"http://127.0.0.1:{service.port}"
    told = ".then(t=>document.title='got:'+t,e=>document.title='got:error')"
    page.get(evil(f"const A='{own}', K='{service.key}'; {ATTEMPTS[attempt]}{told}"))
    wait_until(lambda: page.title.startswith("got:"), 10)
    assert page.title in ("got:", "got:error")
    assert "json" in [each["name"] for each in service.ask("GET", "/admin/loaded")[1]["loaded"]]


def test_approved_page_of_another_origin_uses_window_ai(
    service: Service, page: Any, evil: Callable[[str], str]
) -> None:
    from pantry.access.apps import add_app
    from pantry.core.permissions import Grant, Permission

    own = f"http://127.0.0.1:{service.port}"
    ask = (
        f"fetch('{own}/completions',{{method:'POST',headers:{{'X-API-KEY':'{service.key}'}},"
        "body:JSON.stringify({model:'json',prompt:'a'})}).then(r=>r.text())"
        ".then(t=>document.title='got:'+t,e=>document.title='got:error')"
    )
    address = evil(ask)
    add_app(service.paths, "Page", address.rstrip("/"), [Permission.SESSION, Permission.LOAD], Grant())
    page.get(address)
    wait_until(lambda: page.title.startswith("got:"), 10)
    assert "fox" in page.title


def test_page_does_not_appear_in_a_frame(service: Service, page: Any, evil: Callable[[str], str]) -> None:
    own = urllib.parse.quote(f"http://127.0.0.1:{service.port}/ui/", safe=":/")
    page.get(evil(f"f.onload=()=>document.title='loaded'; f.src='{own}'"))
    wait_until(lambda: page.title == "loaded", 10)
    page.switch_to.frame(0)
    assert "Pantry" not in page.page_source
    page.switch_to.default_content()
