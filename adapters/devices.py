"""The label of a device from the User-Agent of its requests, such as `Chrome on Windows`.

Only names from the tables below are in a label, so it is bounded and shows nothing that a client has written; the
header itself, which can identify a person, is kept nowhere. Labels are hints for the account's owner and no proof: a
client sends whatever it likes.
"""

import re

_MOST = 512
"""Characters that are read: twice what browsers send."""

# The first that matches: most browsers name others as well, and those that are built on another say so in addition.
_BROWSERS = (
    (re.compile(r"\b(?:Edg|EdgA|EdgiOS|Edge)/"), "Edge"),
    (re.compile(r"\b(?:OPR|OPT|Opera|OPX|OPiOS)[/ ]"), "Opera"),
    (re.compile(r"\bSamsungBrowser/"), "Samsung Internet"),
    (re.compile(r"\bVivaldi/"), "Vivaldi"),
    (re.compile(r"\bYaBrowser/"), "Yandex Browser"),
    (re.compile(r"\b(?:UCBrowser|UBrowser)/"), "UC Browser"),
    (re.compile(r"\bMiuiBrowser/"), "Mi Browser"),
    (re.compile(r"\b(?:DuckDuckGo|Ddg)/"), "DuckDuckGo"),
    (re.compile(r"\b(?:Firefox|FxiOS)/"), "Firefox"),
    (re.compile(r"\b(?:Chrome|CriOS|Chromium|HeadlessChrome)/"), "Chrome"),
    (re.compile(r"\bVersion/[\d.]+ (?:Mobile/\w+ )?Safari/"), "Safari"),
    (re.compile(r"\b(?:MSIE |Trident/)"), "Internet Explorer"),
    (re.compile(r"^curl/"), "curl"),
    (re.compile(r"^Wget/"), "Wget"),
    (re.compile(r"^okhttp/"), "OkHttp"),
    (re.compile(r"^python-(?:requests|httpx|urllib)|^Python-urllib/"), "Python"),
    (re.compile(r"^PostmanRuntime/"), "Postman"),
)
_SYSTEMS = (
    (re.compile(r"\b(?:Windows Phone|IEMobile)\b"), "Windows Phone"),
    (re.compile(r"\bAndroid\b"), "Android"),
    (re.compile(r"\b(?:iPhone|iPod)\b"), "iPhone"),
    # Safari on an iPad says that it is a Macintosh; other browsers on it do not.
    (re.compile(r"\biPad\b"), "iPad"),
    (re.compile(r"\bWindows\b"), "Windows"),
    (re.compile(r"\bCrOS\b"), "ChromeOS"),
    (re.compile(r"\b(?:Macintosh|Mac OS X)\b"), "macOS"),
    (re.compile(r"\bKAIOS\b"), "KaiOS"),
    (re.compile(r"\b(?:Linux|X11)\b"), "Linux"),
)


def device_label(user_agent: str | None) -> str | None:
    """Browser and operating system, or the one of them that is known; None when neither is."""
    text = (user_agent or "")[:_MOST]
    known = [name for table in (_BROWSERS, _SYSTEMS) if (name := _first(table, text))]
    return " on ".join(known) or None


def _first(table: tuple[tuple[re.Pattern[str], str], ...], text: str) -> str | None:
    return next((name for pattern, name in table if pattern.search(text)), None)
