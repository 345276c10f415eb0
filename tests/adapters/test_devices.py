"""Labels of devices: bounded, and made of names that we have written."""

import itertools

import pytest

from adapters.devices import _BROWSERS, _SYSTEMS, device_label
from adapters.tables import sessions

_KHTML = "AppleWebKit/537.36 (KHTML, like Gecko)"
_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
_ANDROID = "Mozilla/5.0 (Linux; Android 10; K)"
_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)"
_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"


@pytest.mark.parametrize(
    ("user_agent", "label"),
    [
        (f"{_WINDOWS} {_KHTML} Chrome/131.0.0.0 Safari/537.36", "Chrome on Windows"),
        (f"{_WINDOWS} {_KHTML} Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0", "Edge on Windows"),
        (f"{_WINDOWS} {_KHTML} Chrome/131.0.0.0 Safari/537.36 OPR/116.0.0.0", "Opera on Windows"),
        (f"{_MAC} {_WEBKIT} Version/18.1 Safari/605.1.15", "Safari on macOS"),
        (f"{_MAC} {_KHTML} Chrome/131.0.0.0 Safari/537.36", "Chrome on macOS"),
        (f"{_IPHONE} {_WEBKIT} Version/18.0 Mobile/15E148 Safari/604.1", "Safari on iPhone"),
        (f"{_IPHONE} {_WEBKIT} CriOS/131.0 Mobile/15E148 Safari/604.1", "Chrome on iPhone"),
        (f"{_IPHONE} {_WEBKIT} FxiOS/133.0 Mobile/15E148 Safari/605.1.15", "Firefox on iPhone"),
        ("Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) Version/16.6 Mobile/15E148 Safari/604.1", "Safari on iPad"),
        (f"{_ANDROID} {_KHTML} Chrome/131.0.0.0 Mobile Safari/537.36", "Chrome on Android"),
        (
            f"{_ANDROID} {_KHTML} SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36",
            "Samsung Internet on Android",
        ),
        (f"{_ANDROID} {_KHTML} Version/4.0 Chrome/100.0 Mobile Safari/537.36 UCBrowser/13.4", "UC Browser on Android"),
        ("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", "Firefox on Linux"),
        ("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) Chrome/131.0.0.0 Safari/537.36", "Chrome on ChromeOS"),
        ("Mozilla/5.0 (Mobile; Nokia 2780; rv:84.0) Gecko/84.0 Firefox/84.0 KAIOS/3.1", "Firefox on KaiOS"),
        ("Mozilla/5.0 (Windows NT 10.0; Trident/7.0; rv:11.0) like Gecko", "Internet Explorer on Windows"),
        ("okhttp/4.12.0", "OkHttp"),
        ("curl/8.5.0", "curl"),
        ("python-httpx/0.28.1", "Python"),
        ("Mozilla/5.0 (Windows NT 10.0)", "Windows"),
    ],
)
def test_label_names_browser_and_system(user_agent: str, label: str) -> None:
    assert device_label(user_agent) == label


@pytest.mark.parametrize(
    "user_agent",
    [
        None,
        "",
        " ",
        "\x00\x01",
        "<script>alert(1)</script>",
        "धन्यवाद",
        "Mozilla/5.0",
        "Chrome",
        "Firefoxes/1",
        "%s%n{}",
    ],
)
def test_what_is_not_known_has_no_label(user_agent: str | None) -> None:
    assert device_label(user_agent) is None


@pytest.mark.parametrize(
    "hostile",
    [
        "Chrome/<b>https://evil.example</b> Windows\r\nSet-Cookie: a=b",
        "Chrome/1 Windows " + "A" * 1_000_000,
        "Chrome/1 " * 100_000 + "Windows",
        "Chrome/1 (Windows; " + "(" * 50_000,
        "Version/1.1.1.1.1.1 Mobile/1 " * 10_000 + "Chrome/1 Windows",
    ],
)
def test_nothing_that_a_client_writes_is_in_the_label(hostile: str) -> None:
    browsers, systems = ({None, *(name for _, name in table)} for table in (_BROWSERS, _SYSTEMS))
    pairs = itertools.product(browsers, systems)

    assert device_label(hostile) in {" on ".join(filter(None, pair)) or None for pair in pairs}


def test_only_the_beginning_of_a_header_is_read() -> None:
    assert device_label("A" * 512 + " Chrome/1") is None


def test_every_label_fits_the_column() -> None:
    longest = max(len(f"{browser} on {system}") for (_, browser), (_, system) in itertools.product(_BROWSERS, _SYSTEMS))

    assert longest <= sessions.c.device.type.length  # type: ignore[attr-defined]
