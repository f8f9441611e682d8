"""Who may ask: every way of authentication, from here and from elsewhere, from our page and from foreign ones."""

from __future__ import annotations

import base64
import itertools

import pytest

starlette = pytest.importorskip("starlette")

from starlette.applications import Starlette  # noqa: E402
from starlette.responses import JSONResponse  # noqa: E402
from starlette.routing import Route  # noqa: E402

from dreambooth_ext.host.web import routes  # noqa: E402
from tests.host.asking import FAR, LOCAL, Asked, request  # noqa: E402

PASSWORDS = {"ann": "secret", "böb": "pässword:with:colons"}
FOREIGN = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
OWN = {"origin": "http://127.0.0.1:7860", "sec-fetch-site": "same-origin"}


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def gradio(asked: Asked, has_page: bool = True) -> Starlette:
    """An app with gradio's /user: who has the cookie is logged in, else null."""

    async def user(request):
        return JSONResponse("ann" if request.cookies.get("access-token") == "good" else None)

    app = Starlette(routes=[Route("/user", user)] if has_page else [])
    routes.mount(app, asked.service)
    return app


def ask(app, method="GET", headers=None, client=LOCAL, path="version") -> int:
    sent = {"content-type": "application/json", **(headers or {})}
    body = b'{"order": []}' if method == "POST" else b""
    return request(app, method, f"{routes.PREFIX}/{path}", headers=sent, body=body, client=client).status


@pytest.mark.parametrize(
    ("login", "passwords", "page", "client", "foreign", "method"),
    list(itertools.product((False, True), (False, True), (False, True), (LOCAL, FAR), (False, True), ("GET", "POST"))),
)
def test_the_matrix(tmp_path, login, passwords, page, client, foreign, method):
    """gradio's login on or off x --api-auth on or off x with or without a page x near or far x own or foreign page."""
    asked = Asked(tmp_path, passwords=PASSWORDS if passwords else {})
    asked.host.login = login
    app = gradio(asked, page)
    path = "queue"
    site = FOREIGN if foreign else OWN
    writes = method == "POST"
    has_lock = passwords or (login and page)

    for known in ({}, {"cookie": "access-token=good"}, basic("ann", "secret"), basic("ann", "wrong")):
        by_cookie = "cookie" in known and login and page
        by_password = known == basic("ann", "secret") and passwords
        if foreign and writes:
            wanted = 403
        elif by_cookie or by_password:
            wanted = 200
        elif has_lock:
            wanted = 401
        else:
            wanted = 200 if client == LOCAL and not foreign else 403
        assert ask(app, method, {**site, **known}, client, path) == wanted, known


def test_the_browser_asks_for_a_password_only_where_one_helps(tmp_path):
    asked = Asked(tmp_path, passwords=PASSWORDS)
    assert asked.get("version").headers["www-authenticate"].startswith("Basic ")
    assert asked.get("version").json()["code"] == "web.password"
    asked = Asked(tmp_path)
    asked.host.login = True
    answer = request(gradio(asked), "GET", f"{routes.PREFIX}/version")
    assert answer.status == 401 and "www-authenticate" not in answer.headers
    assert (answer.json()["error"], answer.json()["remedy"]) == ("This needs a login.", "Log in to the WebUI.")


@pytest.mark.parametrize(
    "header",
    [
        "Basic", "Basic !!!", "Basic YW5u", "Basic ", "Bearer secret", "basic \x00", "Basic " + "A" * 100_000,
        "Basic " + base64.b64encode(b"\xff:\xff").decode(), "Basic " + base64.b64encode(b"ann").decode(),
        "Basic " + base64.b64encode(b"ann:").decode(), "Basic " + base64.b64encode(b":secret").decode(),
        "Basic " + base64.b64encode(b"ANN:secret").decode(), "Basic " + base64.b64encode(b":").decode(),
    ],
)  # fmt: skip
def test_what_is_no_password(tmp_path, header):
    assert Asked(tmp_path, passwords=PASSWORDS).get("version", headers={"authorization": header}).status == 401


def test_passwords_in_any_letters_and_case_of_the_scheme(tmp_path):
    asked = Asked(tmp_path, passwords=PASSWORDS)
    headers = basic("böb", "pässword:with:colons")
    assert asked.get("version", headers=headers).status == 200
    assert (
        asked.get("version", headers={"authorization": headers["authorization"].replace("Basic", "bAsIC")}).status
        == 200
    )


@pytest.mark.parametrize(
    ("client", "allowed"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False), ("::ffff:10.0.0.1", False), ("fe80::1%eth0", False), ("0.0.0.0", False), ("", False),
        ("localhost", False), ("127.0.0.1.evil.example", False),
    ],
)  # fmt: skip
def test_this_machine_by_its_addresses(tmp_path, client, allowed):
    assert Asked(tmp_path).get("version", client=(client, 1)).status == (200 if allowed else 403)


def test_a_caller_without_an_address(tmp_path):
    assert Asked(tmp_path).get("version", client=None).status == 403


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Forwarded-Host"])
def test_what_proxies_say_is_never_a_way_in(tmp_path, name):
    """A far caller does not become near by it; and what comes through a proxy is not from this machine."""
    asked = Asked(tmp_path)
    assert asked.get("version", client=FAR, headers={name: "127.0.0.1"}).status == 403
    assert asked.get("version", headers={name: "127.0.0.1"}).status == 403
    locked = Asked(tmp_path, passwords=PASSWORDS)
    assert locked.get("version", headers={name: "203.0.113.7", **basic("ann", "secret")}).status == 200


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:7860", True), ("localhost:7860", True), ("LOCALHOST", True), ("[::1]:7860", True),
        ("localhost.:7860", True), ("0.0.0.0:7860", True), ("[::ffff:127.0.0.1]:80", True),
        ("evil.example:7860", False), ("localhost.evil.example", False), ("127.0.0.1.nip.io", False), ("", False),
        (None, False), ("192.168.1.2:7860", False), ("localhost/x", False), ("evil@localhost", False),
        ("[::1", False), ("localhost:", False), ("localhost:80:80", False), ("evil.example#localhost", False),
    ],
)  # fmt: skip
def test_names_of_this_machine(tmp_path, host, allowed):
    """DNS rebinding: a foreign page's own name leads here, and the browser takes us for that page's server."""
    assert Asked(tmp_path).get("version", headers={"host": host}).status == (200 if allowed else 403)


def test_behind_a_password_any_name_will_do(tmp_path):
    asked = Asked(tmp_path, passwords=PASSWORDS)
    headers = {"host": "gpu.example", "origin": "https://gpu.example", **basic("ann", "secret")}
    assert asked.post("queue", {"order": []}, headers=headers, client=FAR).status == 200


@pytest.mark.parametrize(
    ("headers", "is_foreign"),
    [
        ({}, False),  # no browser
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),  # typed into the address bar
        ({"sec-fetch-site": "same-origin", "origin": "https://behind.a.proxy"}, False),
        ({"sec-fetch-site": "same-site"}, True),  # another port of this machine
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": ""}, True),
        ({"origin": "http://127.0.0.1:7860"}, False),
        ({"origin": "http://127.0.0.1:8000"}, True),
        ({"origin": "http://localhost:7860"}, True),
        ({"origin": "null"}, True),  # a sandboxed frame, a file
        ({"origin": ""}, True),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "http://127.0.0.1:7860.evil.example"}, True),
        ({"origin": "http://[::1"}, True),
        ({"host": "localhost", "origin": "http://localhost"}, False),
        ({"host": "localhost", "origin": "http://localhost:80"}, False),
        ({"host": "localhost:80", "origin": "http://localhost"}, False),
        ({"host": "Localhost:7860", "origin": "http://localhost:7860"}, False),
        ({"host": "[::1]:7860", "origin": "http://[::1]:7860"}, False),
    ],
)
def test_our_pages_and_foreign_ones(tmp_path, headers, is_foreign):
    asked = Asked(tmp_path)
    wanted = 403 if is_foreign else 200
    assert asked.get("version", headers=headers).status == wanted
    assert asked.post("queue", {"order": []}, headers=headers).status == wanted


def test_the_login_is_asked_with_the_cookie_alone(tmp_path):
    seen = []

    async def user(request):
        seen.append((dict(request.headers), request.method, request.url.query, await request.body()))
        return JSONResponse("ann")

    asked = Asked(tmp_path)
    asked.host.login = True
    app = Starlette(routes=[Route("/user", user)])
    routes.mount(app, asked.service)
    headers = {"cookie": "a=b", "content-type": "application/json", "authorization": "Basic x", "x-forwarded-for": "1"}
    assert request(app, "POST", f"{routes.PREFIX}/queue?x=y", headers=headers, body=b'{"order": []}').status == 200
    assert seen == [({"host": "127.0.0.1:7860", "cookie": "a=b"}, "GET", "", b"")]


@pytest.mark.parametrize(
    "told", [JSONResponse(None), JSONResponse(""), JSONResponse({"name": "x"}), JSONResponse("ann", 500),
             JSONResponse("ann", 302), JSONResponse(True), JSONResponse([])]
)  # fmt: skip
def test_a_login_that_says_anything_else_lets_nobody_in(tmp_path, told):
    async def user(request):
        return told

    asked = Asked(tmp_path)
    asked.host.login = True
    app = Starlette(routes=[Route("/user", user)])
    routes.mount(app, asked.service)
    assert ask(app) == 401


def test_a_login_that_breaks_lets_nobody_in(tmp_path):
    async def user(request):
        raise RuntimeError("x")

    asked = Asked(tmp_path)
    asked.host.login = True
    app = Starlette(routes=[Route("/user", user)])
    routes.mount(app, asked.service)
    assert ask(app) == 401


def test_every_route_has_the_guard_but_the_page(tmp_path):
    asked = Asked(tmp_path, passwords=PASSWORDS)
    for path, methods in routes.table(asked.service).items():
        filled = path.replace("{", "").replace("}", "").replace(":path", "").lstrip("/")
        for method in (*methods, "GET", "OPTIONS", "PATCH", "BREW"):
            status = asked.ask(method, filled, client=FAR).status
            assert status == 401 or filled == "page/file", (method, path)
