"""Who is answered, what every answer carries, and what no answer says."""

from __future__ import annotations

import html
import json
import re
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import quote

import pytest
from asking import Asker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qkvault_viewer import app as app_module
from qkvault_viewer import create_app
from qkvault_viewer.failures import hide_paths
from qkvault_viewer.security import CONTENT_SECURITY_POLICY, host_name, is_loopback

TOKEN = "correct horse/battery"
CANARY = "canary-in-a-file-beside"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of static files of its own, with something beside it that must stay unseen."""
    static = tmp_path / "static"
    (static / "views").mkdir(parents=True)
    (static / "index.html").write_text("<!doctype html><title>page</title>")
    (static / "views" / "main.js").write_text("export {};")
    (tmp_path / "secret.txt").write_text(CANARY)
    monkeypatch.setattr(app_module, "STATIC", static)
    return static


@pytest.fixture(scope="module")
def guarded(vault_path: Path) -> Asker:
    return Asker(create_app([vault_path], TOKEN), Host="vaults.example.org")


def assert_headers(headers: object) -> None:
    assert headers.get_all("Content-Security-Policy") == [CONTENT_SECURITY_POLICY]
    assert headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert headers.get_all("Cross-Origin-Resource-Policy") == ["same-origin"]
    assert headers.get_all("Referrer-Policy") == ["no-referrer"]
    assert headers.get("Cache-Control")
    assert "Access-Control-Allow-Origin" not in headers


def test_the_policy_is_as_documented() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "viewer-api.md").read_text(encoding="utf-8")
    assert CONTENT_SECURITY_POLICY in " ".join(documented.split())


@pytest.mark.usefixtures("page")
def test_every_answer_carries_the_headers(asker: Asker) -> None:
    base = asker.base
    seen = set()
    for path, method, headers in (
        ("/", "GET", {}),
        ("/", "HEAD", {}),
        ("/static/views/main.js", "GET", {}),
        ("/static/absent.js", "GET", {}),
        ("/api/v1/stores", "GET", {}),
        ("/api/v1/s/some-pairs", "GET", {}),
        (f"{base}/ex/0", "GET", {}),
        (f"{base}/ex/0/thumbnails/encoder", "GET", {}),
        (f"{base}/ex/99", "GET", {}),
        (f"{base}/examples?limit=0", "GET", {}),
        ("/nowhere", "GET", {}),
        ("/", "POST", {}),
        ("/", "OPTIONS", {}),
        ("/", "GET", {"Host": "evil.com"}),
        ("/api/v1/stores", "GET", {"Sec_Fetch_Site": "cross-site"}),
        ("/x" * 5000, "GET", {}),
    ):
        answer = asker.get(path, method, **headers)
        assert_headers(answer.headers)
        seen.add(answer.status_code)
        if method == "HEAD":
            assert answer.data == b""
    assert seen == {200, 400, 403, 404, 405, 413}


@pytest.mark.usefixtures("page")
def test_page_and_modules_have_their_types(asker: Asker) -> None:
    page = asker.get("/")
    assert page.content_type == "text/html; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-cache"
    module = asker.get("/static/views/main.js")
    assert module.content_type.startswith("text/javascript")
    assert asker.get("/", If_None_Match=page.headers["ETag"]).status_code == 304


def test_the_page_that_is_shipped_needs_nothing_inline_or_foreign() -> None:
    text = (app_module.STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    for target in re.findall(r"(?:src|href)=\"([^\"]*)\"", text):
        assert re.match(r"(?!/|[a-z]+:)|/static/", html.unescape(target)), target


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8765", "127.0.0.1:1", "127.8.9.10", "[::1]", "[::1]:80", "localhost."],
)
def test_this_machines_own_names_are_answered(asker: Asker, host: str) -> None:
    assert asker.get("/api/v1/stores", Host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.com",
        "127.0.0.1.nip.io",
        "localhost.evil.com",
        "localhost@evil.com",
        "evil.com#localhost",
        "[::2]",
        "[::1",
        "0.0.0.0",
        "192.168.0.7",
        "localhost:",
        "localhost:x",
        "local host",
        "",
        "127.0.0.1, evil.com",
        "2130706433",
        "l\u00f6calhost",
    ],
)
def test_foreign_names_are_not(asker: Asker, host: str) -> None:
    for path in ("/", "/api/v1/stores", f"{asker.base}/ex/0", "/nowhere"):
        asker.refused(path, 400, "bad_host", Host=host)


def test_other_sites_may_link_but_not_ask(asker: Asker) -> None:
    for site in ("cross-site", "same-site"):
        sent = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "no-cors"}
        asker.refused("/api/v1/stores", 403, "cross_site", **sent)
        linked = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate"}
        assert asker.get("/api/v1/stores", **linked).status_code == 200
    assert asker.get("/api/v1/stores", Sec_Fetch_Site="same-origin").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_only_reading_is_allowed(asker: Asker, method: str) -> None:
    for path in ("/api/v1/stores", "/nowhere"):
        answer = asker.get(path, method)
        assert answer.status_code == 405
        assert answer.headers["Allow"] == "GET, HEAD"
        assert answer.json["error"]["kind"] == "method_not_allowed"


def test_a_request_has_no_body(asker: Asker) -> None:
    for sent in (
        {"Content_Length": "2000"},
        {"Content_Length": "x"},
        {"Transfer_Encoding": "chunked"},
    ):
        asker.refused("/api/v1/stores", 413, "too_large", **sent)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../secret.txt",
        "/static/..%2fsecret.txt",
        "/static/%2e%2e/secret.txt",
        "/static/views/../../secret.txt",
        "/static/..\\secret.txt",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
        "/static/",
        "/static/views",
        "/static/secret.txt%00.js",
        "/../secret.txt",
        "/api/v1/s/../secret.txt",
        "/api/v1/s/..%2f..%2fsecret.txt",
        "//etc/passwd",
        "/api/v1//stores",
        "/api/v1/stores/",
    ],
)
@pytest.mark.usefixtures("page")
def test_no_address_leads_out(asker: Asker, path: str) -> None:
    answer = asker.get(path)
    assert answer.status_code == 404
    assert answer.json["error"]["kind"] == "not_found"
    assert CANARY not in answer.text
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "number", ["-1", "+1", "1.0", "1e3", "0x1", "1234567890", "%D9%A1", "", "a"]
)
def test_numbers_are_one_to_nine_digits(asker: Asker, number: str) -> None:
    for path in (
        f"/ex/{number}/thumbnails/encoder",
        f"/ex/0/attention/encoder/{number}/1",
        f"/ex/0/row/encoder/1/{number}",
    ):
        asker.refused(asker.base + path, 404, "not_found")


def test_a_token_is_needed_once_there_is_one(guarded: Asker) -> None:
    for path in ("/", "/static/main.js", "/api/v1/stores", f"{guarded.base}/ex/0", "/nowhere"):
        guarded.refused(path, 401, "unauthorized")
        guarded.refused(path, 401, "unauthorized", Authorization="Bearer wrong")
        guarded.refused(f"{path}?token=wrong", 401, "unauthorized")
        guarded.refused(path, 401, "unauthorized", Cookie=f"qkvault={TOKEN}")
        guarded.refused(path, 401, "unauthorized", Authorization=f"Basic {TOKEN}")


def test_a_script_shows_the_token_in_a_header(guarded: Asker) -> None:
    answer = guarded.get(f"{guarded.base}/ex/0", Authorization=f"Bearer {TOKEN}")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    bad = guarded.get("/api/v1/stores", Host="bad host", Authorization=f"Bearer {TOKEN}")
    assert bad.status_code == 400


def test_a_browser_shows_the_token_once_and_gets_a_cookie(guarded: Asker) -> None:
    answer = guarded.get(f"/?token={quote(TOKEN, safe='')}&view=heads%20a")
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/?view=heads+a"
    assert answer.headers["Cache-Control"] == "no-store"
    assert_headers(answer.headers)
    (cookie,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"
    assert TOKEN not in answer.headers["Set-Cookie"]
    sent = f"other=1; {cookie.key}={cookie.value}"
    assert guarded.get("/api/v1/stores", Cookie=sent).status_code == 200
    guarded.refused("/api/v1/stores", 401, "unauthorized", Cookie=sent[:-1])


@pytest.mark.parametrize("path", ["//evil.com/x", "/\\evil.com", "///evil.com", "/%2f%2fevil.com"])
def test_showing_the_token_leads_nowhere_else(guarded: Asker, path: str) -> None:
    environ = {"PATH_INFO": path, "QUERY_STRING": f"token={quote(TOKEN)}"}
    answer = guarded.app.test_client().get("/", environ_overrides=environ)
    assert answer.status_code == 303
    assert re.match(r"/(?![/\\])", answer.headers["Location"])


def test_two_servers_do_not_share_a_cookie(vault_path: Path) -> None:
    names = set()
    for token in ("first token", "second token"):
        answer = Asker(create_app([vault_path], token)).get(f"/?token={quote(token)}")
        names |= set(SimpleCookie(answer.headers["Set-Cookie"]))
    assert len(names) == 2


def test_hosts_are_read_strictly() -> None:
    assert host_name("[::1]:8765") == "[::1]"
    assert host_name("a.b:1") == "a.b"
    assert host_name("a b") is None
    assert is_loopback("127.255.0.1")
    assert not is_loopback("128.0.0.1")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("/home/ann/my.vault/plan.json is cut", "plan.json is cut"),
        ("no file '/srv/x/y'", "no file 'y'"),
        (r"C:\Users\ann\v is damaged", "v is damaged"),
        ("b0064/encoder/attention/c.0.0 is damaged", "b0064/encoder/attention/c.0.0 is damaged"),
        ("read and/or write 3 / 4", "read and/or write 3 / 4"),
    ],
)
def test_paths_are_hidden(said: str, shown: str) -> None:
    assert hide_paths(said) == shown


_SELECTION = {
    "q": st.sampled_from(["rain", '"the cat"', "mus*", ""]) | st.text(max_size=8),
    "sort": st.sampled_from(["length", "correct", "columns.source", "text"]),
    "order": st.sampled_from(["asc", "desc"]),
    "where": st.fixed_dictionaries(
        {},
        optional={
            "label": st.sampled_from([0, 1, None, [0, 1], "same", True]),
            "length": st.sampled_from([{"min": 9}, {"max": 30}, {"min": 70, "max": 5}, 12]),
            "source": st.text(max_size=5),
            "quality": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
        },
    ).map(json.dumps),
}
_FORMS = {"as": st.sampled_from(["u8", "f32"]), "rows": st.sampled_from(["0:5", "1:2"])}
_SOUND = {
    "/ex/%d": {},
    "/ex/%d/thumbnails/encoder": {"layers": st.sampled_from(["0:1", "1:2"])},
    "/ex/%d/attention/encoder/4": _FORMS,
    "/ex/%d/attention/encoder/1/3": _FORMS,
    "/ex/%d/row/encoder/1/4": {},
    "/ex/%d/column/encoder/4/0": {},
    "/ex/%d/vectors/encoder/1/2": {"parts": st.sampled_from(["value", "key,query"])},
    "/position/%d": _SELECTION,
    "/examples": {**_SELECTION, "limit": st.integers(1, 200).map(str)},
    "/columns": {},
    "/find": {"id": st.integers(0, 12).map("r{:05}".format)},
}
_JUNK = (
    st.sampled_from(["", "..", "%2e%2e", "-1", "999999999", "12", "NaN", "5:3", "<img>", "a,b"])
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["label", "length", "min", "source"]) | st.text(max_size=4),
                inner,
                max_size=2,
            )
        ),
        max_leaves=4,
    ).map(json.dumps)
    | st.text(max_size=8)
)
_NAMES = st.sampled_from([*_SELECTION, *_FORMS, "cursor", "limit", "parts", "id", "token"])


@st.composite
def _addresses(draw: st.DrawFn) -> str:
    """Sound addresses, and such as have one thing wrong, at least."""
    form = draw(st.sampled_from(sorted(_SOUND)))
    pairs = {
        name: draw(values) for name, values in _SOUND[form].items() if draw(st.integers(0, 2)) == 0
    }
    parts = (form % draw(st.integers(0, 11)) if "%" in form else form).split("/")
    flaw = draw(st.sampled_from(["none", "none", "part", "value", "name", "cut"]))
    if flaw == "part":
        parts[draw(st.integers(0, len(parts) - 1))] = draw(_JUNK)
    elif flaw == "value" and pairs:
        pairs[draw(st.sampled_from(sorted(pairs)))] = draw(_JUNK)
    elif flaw == "name":
        pairs[draw(_NAMES | st.text(max_size=4))] = draw(_JUNK)
    base = (
        draw(st.sampled_from(["", "/static", "/api/v1", "/api/v1/s"])) if flaw == "cut" else "BASE"
    )
    safe = draw(st.sampled_from(["", "/%"]))
    path = base + "/".join(quote(part, safe=safe) for part in parts)
    query = "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs.items())
    return (path or "/") + (f"?{query}" if query else "")


def _encodable(address: str) -> bool:
    return address.isprintable() and address.isascii()


def _fuzz(asker: Asker, vault_path: Path, address: str, host: str) -> int:
    answer = asker.get(address.replace("BASE", asker.base), Host=host)
    assert answer.status_code < 500, answer.text
    assert_headers(answer.headers)
    if answer.status_code >= 400:
        assert answer.json is not None
        assert answer.json["error"]["status"] == answer.status_code
        assert str(vault_path.parent) not in answer.text
        assert "Traceback" not in answer.text
        assert "site-packages" not in answer.text
    if host == "evil.com":
        assert answer.status_code in (400, 405)
    return answer.status_code


_FUZZING = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}
_HOSTS = st.sampled_from(["localhost", "localhost", "localhost", "localhost", "evil.com"])


@settings(max_examples=200, **_FUZZING)
@given(address=_addresses().filter(_encodable), host=_HOSTS)
def test_fuzzed_requests_break_and_leak_nothing(
    asker: Asker, vault_path: Path, address: str, host: str
) -> None:
    _fuzz(asker, vault_path, address, host)


@pytest.mark.slow
def test_three_thousand_fuzzed_requests(asker: Asker, vault_path: Path) -> None:
    answered: dict[int, int] = {}

    @settings(max_examples=3000, **_FUZZING)
    @given(address=_addresses().filter(_encodable), host=_HOSTS)
    def fuzz(address: str, host: str) -> None:
        status = _fuzz(asker, vault_path, address, host)
        answered[status] = answered.get(status, 0) + 1

    fuzz()
    print(sorted(answered.items()))
    assert answered[200] >= 900
