"""`make mails`: every notice in every form, with invented values, on one page."""

import argparse
import sys
from pathlib import Path
from typing import Any

from domain.preferences import OPTIONAL_KINDS
from notices import gsm, render
from notices.samples import Sample, digest_values, samples

_PAGE = Path(__file__).resolve().parent.parent / ".data" / "mails.html"


def page() -> str:
    """The page, in HTML."""
    return render.preview_page([*map(_preview, samples()), _digest_preview()])


def _preview(sample: Sample) -> dict[str, Any]:
    kind, values = sample.kind, sample.values
    return {
        "name": sample.name,
        "kind": kind.value,
        "mail": render.mail(kind, values),
        "short": _short(sample),
        "sms": _shown(kind.value, render.sms(kind, values)) if kind in render.SMS_KINDS else None,
    }


def _short(sample: Sample) -> render.Short:
    return render.short(sample.kind, render.short_values(sample.kind, sample.values["event"]))


def _digest_preview() -> dict[str, Any]:
    shorts = [_short(sample) for sample in samples() if sample.kind in OPTIONAL_KINDS]
    items = [render.DigestItem(short.title, short.body, digest_values()["links"]["listing"]) for short in shorts]
    return {
        "name": "digest, when quiet hours end",
        "kind": render.DIGEST,
        "mail": render.digest(items, digest_values()),
        "short": render.digest_short(len(items)),
        "sms": _shown(render.DIGEST, render.digest_sms(len(items))),
    }


def _shown(name: str, sms: render.RenderedSms) -> dict[str, Any]:
    registered = render.dlt_texts()[name]
    return {"text": sms.text, "length": gsm.length(sms.text), "registered_as": name, "dlt_text": registered}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m notices", description=__doc__)
    parser.add_argument("--output", type=Path, default=_PAGE, help="file to write (default: .data/mails.html)")
    output: Path = parser.parse_args().output
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"Every notice is on {output.resolve()}\n")


if __name__ == "__main__":
    main()
