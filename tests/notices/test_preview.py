"""`make mails` writes a page with every notice."""

import asyncio
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

from embedded.paths import ROOT
from notices.samples import samples


class Frames(HTMLParser):
    """Collects the mails of a page, and its level 2 headings' number."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[str] = []
        self.sandboxes: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "iframe":
            self.mails.append(dict(attrs)["srcdoc"] or "")
            self.sandboxes.append(dict(attrs)["sandbox"])


async def test_preview_has_every_notice_in_a_frame_that_runs_nothing(tmp_path: Path) -> None:
    page = tmp_path / "folder" / "mails.html"
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "notices", "--output", str(page)), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    printed = (await program.communicate())[0].decode()

    assert program.returncode == 0
    assert str(page) in printed
    frames = Frames()
    frames.feed(page.read_text(encoding="utf-8"))
    assert len(frames.mails) == len(samples()) + 1
    assert set(frames.sandboxes) == {""}
    assert all(ElementTree.fromstring(mail).tag.endswith("html") for mail in frames.mails)
