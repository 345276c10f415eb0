"""The texts of notices: every kind in every form, with invented and with hostile values."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

import pytest
from jinja2 import UndefinedError

from domain.notifications import Audience
from domain.preferences import OPTIONAL_KINDS, NoticeKind
from domain.property_status import PropertyStatus
from notices import gsm, render
from notices.samples import Sample, digest_values, samples

SAMPLES = samples()
BY_NAME = {sample.name: sample for sample in SAMPLES}
HOSTILE = {
    "markup": "<script>alert('x')</script> & <b>sons</b>",
    "template": "{{ 7*7 }} {% raw %} {# flat #}",
    "line breaks": "A flat\r\nBcc: all@homes.example\u2028Bcc: you@homes.example",
    "reordered": "flat \u202egnisol\u202c for\u200b sa\u00adle\u2066!\ufeff",
    "quotes": "\"><img src=x onerror='alert(1)'>",
}
LINKS = [
    "http://evil.example/x",
    "https://evil.example",
    "www.evil.example",
    "evil.example/login",
    "me@evil.example",
    "evil。example",
    "evil.xn--p1ai",
    "క్షేత్రం.భారత్",
    "evil.\u200dexample",
    "javascript://evil.example",
]
CLICKABLE = re.compile(r"\w://\w|[^\s.][.\u3002\uff0e\uff61][\u200c\u200d]*[^\W\d_][^\s.,]")
"""What a mail client may turn into a link."""


def named(sample: Sample) -> str:
    return sample.name


def texts(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of every text in values, except links."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key != "links":
                yield from texts(part, (*path, key))
    elif isinstance(value, str) and not isinstance(value, Audience):
        yield path


def replaced(values: Mapping[str, Any], text: str) -> dict[str, Any]:
    """`values` with `text` in place of every text that a user may have written."""
    copy = {key: dict(part) if isinstance(part, Mapping) else part for key, part in values.items()}
    for *parents, name in texts(values):
        inner = copy
        for parent in parents:
            inner = inner[parent]
        if name not in {"status", "fromStatus", "toStatus", "propertyId", "ownerId"}:
            inner[name] = text
    return copy


def shorts(sample: Sample, values: Mapping[str, Any]) -> render.Short:
    return render.short(sample.kind, render.short_values(sample.kind, values["event"]))


def everything(sample: Sample, values: Mapping[str, Any]) -> list[str]:
    """Every text of a notice that is not HTML."""
    mail, short = render.mail(sample.kind, values), shorts(sample, values)
    sms = [render.sms(sample.kind, values).text] if sample.kind in render.SMS_KINDS else []
    return [mail.subject, mail.text, short.title, short.body, *sms]


def html_of(mail: render.Rendered) -> ElementTree.Element:
    return ElementTree.fromstring(mail.html)


def visible(mail: render.Rendered) -> str:
    """What the HTML part shows."""
    body = html_of(mail).find("{*}body")
    assert body is not None
    return " ".join("".join(body.itertext()).split())


def links_of(mail: render.Rendered) -> set[str]:
    return {link.attrib["href"] for link in html_of(mail).iter("{http://www.w3.org/1999/xhtml}a")}


def digest_of(count: int, title: str = "A flat") -> render.Rendered:
    items = [
        render.DigestItem(f"{title} {n}", "It costs less.", f"https://homes.example/properties/{n}")
        for n in range(count)
    ]
    return render.digest(items, digest_values())


def test_every_kind_has_a_sample() -> None:
    assert {sample.kind for sample in SAMPLES} == set(NoticeKind)


@pytest.mark.parametrize("sample", SAMPLES, ids=named)
def test_every_kind_renders_in_every_form(sample: Sample) -> None:
    mail = render.mail(sample.kind, sample.values)

    for text in everything(sample, sample.values):
        assert text.strip()
        assert not re.search(r"\{[{%#]|[#%}]\}|undefined|None|&[a-z#0-9]+;", text)
    for short in [mail.subject, *everything(sample, sample.values)[2:]]:
        assert "\n" not in short
    assert mail.text.startswith("Hello Ravi,\n\n")
    assert "Hello Ravi," in visible(mail)
    assert len(mail.subject) <= 100
    assert max(len(line) for line in mail.text.splitlines() if "://" not in line) <= 72


@pytest.mark.parametrize("sample", SAMPLES, ids=named)
def test_links_of_a_mail_are_in_both_parts(sample: Sample) -> None:
    mail = render.mail(sample.kind, sample.values)
    wanted = set(sample.values["links"].values())
    if sample.kind in OPTIONAL_KINDS:
        wanted -= {sample.values["links"]["app"]}

    assert links_of(mail) == wanted
    assert {link for link in wanted if link in mail.text.split()} == wanted


@pytest.mark.parametrize("sample", SAMPLES, ids=named)
def test_html_loads_nothing(sample: Sample) -> None:
    root = html_of(render.mail(sample.kind, sample.values))

    assert root.attrib["lang"] == "en"
    assert not {element.tag.partition("}")[2] for element in root.iter()} & {"img", "script", "link", "iframe", "form"}
    assert not [name for element in root.iter() for name in element.attrib if name.startswith(("on", "src"))]
    assert "url(" not in ElementTree.tostring(root, encoding="unicode")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("sample", SAMPLES, ids=named)
def test_texts_of_users_are_shown_as_they_are_and_do_nothing(sample: Sample, text: str) -> None:
    values = replaced(sample.values, text)
    mail = render.mail(sample.kind, values)
    tags = [element.tag for element in html_of(render.mail(sample.kind, sample.values)).iter()]

    assert [element.tag for element in html_of(mail).iter()] == tags
    assert links_of(mail) == links_of(render.mail(sample.kind, sample.values))
    for written in (*everything(sample, values), mail.html):
        assert not re.search("[\u200b\u202a-\u202e\u2028\u2029\u2066-\u2069\u00ad\ufeff\r]", written)
        assert not re.search("^Bcc", written, re.MULTILINE)
        assert "49" not in written
    assert "\n" not in mail.subject
    shown = " ".join(re.sub("[\u200b\u202a-\u202e\u2066\u00ad\ufeff]", "", text).replace("\u2028", " ").split())
    assert f"Hello {shown.replace('homes.example', 'homes. example')}," in visible(mail)


@pytest.mark.parametrize("text", LINKS)
@pytest.mark.parametrize("sample", SAMPLES, ids=named)
def test_texts_of_users_never_become_links(sample: Sample, text: str) -> None:
    values = replaced(sample.values, f"see {text} now")
    ours = "|".join(map(re.escape, sorted(sample.values["links"].values(), key=len, reverse=True)))

    for written in (*everything(sample, values), visible(render.mail(sample.kind, values))):
        assert not CLICKABLE.search(re.sub(ours, "", written)), written


@pytest.mark.parametrize(
    "text",
    [
        "3.5BHK, 1,450 sq.ft, e.g. for M. K. Rao...",
        "నమస్కారం క్షేత్రం",
        "گھر برائے فروخت",
        "नमस्ते, क्\u200dष",
        "Flat (2nd floor) @ ₹45 L: 50% down!",
    ],
)
def test_ordinary_texts_of_users_are_not_changed(text: str) -> None:
    values = replaced(BY_NAME["listing confirmed"].values, text)

    mail = render.mail(NoticeKind.LISTING_CONFIRMED, values)

    assert mail.subject == f"Your listing is public: {text.replace('sq.ft', 'sq. ft')}"
    assert text.replace("sq.ft", "sq. ft") in visible(mail)


@pytest.mark.parametrize("sample", SAMPLES, ids=named)
def test_a_value_that_a_template_lacks_is_an_error(sample: Sample) -> None:
    with pytest.raises(UndefinedError):
        render.mail(sample.kind, {**sample.values, "links": {}})


def test_words_of_the_reminders_differ() -> None:
    mails = [render.mail(sample.kind, sample.values) for sample in SAMPLES if sample.kind is NoticeKind.VERIFY_EMAIL]

    assert len(mails) == 4
    for parts in (
        {mail.subject for mail in mails},
        {mail.text for mail in mails},
        {visible(mail).partition("Hello")[2] for mail in mails},
    ):
        assert len(parts) == 4


def test_erased_account_may_have_no_name() -> None:
    values = {**BY_NAME["account erased"].values, "recipient": {"firstName": None, "username": None}}

    mail = render.mail(NoticeKind.ACCOUNT_ERASED, values)

    assert mail.text.startswith("As you asked")
    assert "Hello" not in visible(mail)


def test_optional_values_of_an_event_may_be_absent() -> None:
    sign_in, rejected = BY_NAME["new sign-in"], BY_NAME["status changed: to the owner"]
    fewer = {key: value for key, value in rejected.values["event"].items() if key != "reason"}

    assert "unknown device" in shorts(sign_in, {"event": {}}).body
    assert "Device: unknown" in render.mail(sign_in.kind, {**sign_in.values, "event": {}}).text
    assert "reason" not in render.mail(rejected.kind, {**rejected.values, "event": fewer}).text


def test_saved_search_shows_fourteen_listings_the_number_of_the_others_and_a_link_to_all() -> None:
    few, many = (sample for sample in SAMPLES if sample.kind is NoticeKind.SAVED_SEARCH_MATCHES)
    app, link = many.values["links"]["app"], "https://homes.example/saved-searches/1"
    one = render.mail(few.kind, few.values)
    mail = render.mail(many.kind, {**many.values, "links": {**many.values["links"], "listing": link}})

    for part in (mail.text, mail.html):
        assert "And 72 more." in part
        assert link in part
        assert "If they stay unread, we pause the search." in " ".join(part.split())
    assert mail.html.count(f'href="{app}/properties/') == 14
    assert "86 listings" in mail.subject
    assert "more." not in one.text
    assert "we pause" not in one.text


def test_price_drop_has_both_prices_and_their_difference() -> None:
    sample = BY_NAME["price dropped: of a favourite"]

    for written in (render.mail(sample.kind, sample.values).text, visible(render.mail(sample.kind, sample.values))):
        assert [amount in written for amount in ("₹82,50,000", "₹85,00,000", "₹2,50,000")] == [True, True, True]
    assert shorts(sample, sample.values).title == "A favourite costs ₹2.5 L less"
    assert render.mail(sample.kind, sample.values).subject.startswith("₹2.5 L less: ")


def test_owner_reads_the_reason_of_a_status_and_others_do_not() -> None:
    values = BY_NAME["status changed: to the owner"].values

    owner = render.mail(NoticeKind.STATUS_CHANGED, values)
    other = render.mail(NoticeKind.STATUS_CHANGED, {**values, "audience": Audience.FAVORITES})

    reason = values["event"]["reason"]
    assert (reason in owner.text, reason in visible(owner)) == (True, True)
    assert (reason in other.text, reason in visible(other)) == (False, False)
    assert "because the listing is yours" in visible(owner)
    assert "because you have this listing as favourite" in visible(other)


def test_status_has_words_and_one_of_a_later_release_as_well() -> None:
    values = render.short_values(NoticeKind.STATUS_CHANGED, BY_NAME["status changed: to the owner"].values["event"])

    bodies = {
        status: render.short(NoticeKind.STATUS_CHANGED, {**values, "toStatus": status}).body
        for status in (*PropertyStatus, "ON_HOLD")
    }

    assert bodies[PropertyStatus.UNDER_OFFER] == "The listing in Gachibowli is now under offer."
    assert bodies["ON_HOLD"] == "The listing in Gachibowli is now on hold."
    assert not [body for body in bodies.values() if re.search("[A-Z_]{3}", body)]


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("passkey added", "a passkey was added"),
        ("passkey removed", "a passkey was removed"),
        ("second factor enabled", "the second factor was enabled"),
        ("second factor disabled", "the second factor was disabled"),
        ("recovery codes", "recovery codes were replaced"),
        ("role", "your role was changed"),
    ],
)
def test_change_of_security_is_named_in_every_text(name: str, changed: str) -> None:
    sample = BY_NAME[f"security: {name}"]
    subject, text, title, _, sms = everything(sample, sample.values)

    for written in (subject, text, title, sms, visible(render.mail(sample.kind, sample.values))):
        assert changed in " ".join(written.split())
    assert ("ADMIN" in text) is (name == "role")


def test_time_is_that_of_india() -> None:
    sample = BY_NAME["new sign-in"]

    assert "25 November 2026, 7:06 pm (India)" in render.mail(sample.kind, sample.values).text


@pytest.mark.parametrize("sample", [one for one in SAMPLES if one.kind in render.SMS_KINDS], ids=named)
def test_sms_fits_into_one_message_whatever_its_values_are(sample: Sample) -> None:
    event = {
        **sample.values["event"],
        "price": 10**12,
        "previousPrice": 10**12,
        "device": "d" * 200,
        "title": "t" * 200,
    }

    for values in (sample.values, {**sample.values, "event": event}):
        text = render.sms(sample.kind, values).text
        assert gsm.is_gsm(text)
        assert gsm.messages(text) == 1


def test_sms_differs_from_its_registered_text_in_the_variables_only() -> None:
    registered = render.dlt_texts()

    assert registered.keys() == {kind.value for kind in render.SMS_KINDS} | {render.DIGEST}
    for sample in SAMPLES:
        if sample.kind in render.SMS_KINDS:
            form = re.escape(registered[sample.kind]).replace(re.escape("{#var#}"), ".{1,30}")
            assert re.fullmatch(form, render.sms(sample.kind, sample.values).text)


def test_sms_has_the_template_id_of_its_kind() -> None:
    sample = BY_NAME["new sign-in"]

    assert render.sms(sample.kind, sample.values).template_id is None
    assert render.sms(sample.kind, sample.values, {"NEW_SIGN_IN": "1107160000000000001"}).template_id is not None
    assert render.digest_sms(3, {"DIGEST": "1107160000000000002"}).template_id == "1107160000000000002"


@pytest.mark.parametrize(("text", "length", "messages"), [("a" * 160, 160, 1), ("a" * 161, 161, 2), ("€" * 80, 160, 1)])
def test_gsm_texts_are_counted_as_providers_do(text: str, length: int, messages: int) -> None:
    assert (gsm.length(text), gsm.messages(text)) == (length, messages)


def test_other_scripts_halve_what_fits_into_a_message() -> None:
    assert (gsm.messages("న" * 70), gsm.messages("న" * 71), gsm.length("🏠")) == (1, 2, 2)


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (2, 2), (14, 14), (15, 14), (30, 14)])
def test_digest_shows_fourteen_notices_and_the_number_of_the_others(count: int, shown: int) -> None:
    mail = digest_of(count)

    urls = {f"https://homes.example/properties/{n}" for n in range(shown)}
    assert urls == {link for link in links_of(mail) if "/properties/" in link}
    assert urls == {word for word in mail.text.split() if "/properties/" in word}
    assert mail.subject == f"{count} update{'s' if count > 1 else ''} on your listings and favourites"
    rest = f"And {count - shown} more"
    assert (rest in mail.text, rest in visible(mail)) == ((True, True) if count > shown else (False, False))


def test_digest_has_harmless_texts() -> None:
    mail = digest_of(2, "<b>{{ 7*7 }}</b>\r\nhttp://evil.example")

    assert "<b>" not in mail.html
    assert "<b>{{ 7*7 }}</b> http: //evil. example 0: It costs less." in " ".join(mail.text.split())


def test_digest_by_push_and_sms_is_one_line_with_the_number() -> None:
    assert render.digest_short(12).title == "12 updates while it was quiet"
    assert render.digest_sms(12).text.startswith("Hyderabad Infra: 12 updates")
    assert gsm.messages(render.digest_sms(12).text) == 1
