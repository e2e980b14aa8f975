"""Every console in the documentation prints what the page shows, on a service started for that page alone."""

from __future__ import annotations

import shutil

import pytest

from harness.service import Services
from tests.docs.consoles import files, pasted, run, settled, steps
from tests.docs.pages import REPOSITORY, page_text

README = "README.md"
PAGES = ["docs/http.md", "docs/presence.md", "docs/protocol.md", "docs/websocket.md"]
TOOLS = ["bash", "curl", "redis-cli"]


@pytest.mark.parametrize("page", [README, *PAGES])
def test_a_page_shows_what_is_printed(
    page: str, start_service: Services, tmp_path_factory: pytest.TempPathFactory
) -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"this machine has no {', '.join(missing)}")
    text = page_text(page)
    asked = pasted(text) if page == README else steps(text)
    service = start_service.start(data=tmp_path_factory.mktemp("clone") / "gate-data")
    printed = run([step.command for step in asked], service, files(text))
    assert len(printed) == len(asked)
    for step, output in zip(asked, printed, strict=True):
        assert settled(output) == settled(step.shown), step.command


def test_no_console_is_left_out() -> None:
    pages = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]
    with_consoles = {str(page.relative_to(REPOSITORY)) for page in pages if steps(page.read_text())}
    assert with_consoles == set(PAGES)
