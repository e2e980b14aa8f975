"""Container images are named by digest, and `make pin-images` writes the digests into all files or into none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts.pin_images import PLACEHOLDER, PinFailed, files, pin, references, unpinned
from tests.deploy.files import DEPLOY

FIRST, SECOND = (f"sha256:{digit * 64}" for digit in "12")
IMAGES = {
    "python:3.13-slim",
    "valkey/valkey:9",
    "prom/prometheus:v3.5.0",
    "prom/alertmanager:v0.28.1",
    "grafana/grafana:12.1.0",
}
ANSWER = '#!/bin/sh\ncase "$*" in *{known}*) echo {digest} ;; *) echo "manifest unknown" >&2; exit 1 ;; esac\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEPLOY, tmp_path / "deploy"))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of programs; a stand-in in it answers as the registry's client does."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    return programs


def answer(programs: Path, digest: str, known: str = "") -> None:
    (programs / "skopeo").write_text(ANSWER.format(digest=digest, known=known))
    (programs / "skopeo").chmod(0o755)


def digests(folder: Path) -> dict[str, set[str | None]]:
    named: dict[str, set[str | None]] = {}
    for file in files(folder):
        for image, digest in references(file):
            named.setdefault(image, set()).add(digest)
    return named


def test_each_image_has_a_digest_or_its_placeholder() -> None:
    assert unpinned(DEPLOY) == []
    assert set(digests(DEPLOY)) == IMAGES


def test_a_tag_alone_is_a_problem(folder: Path) -> None:
    for number, digest in enumerate(("", "@sha256:1234", "@latest")):
        (folder / "more.yaml").write_text(f"services: {{}}\nx:\n  image: nginx:{number}{digest}\n")
        [problem] = unpinned(folder)
        assert problem.startswith(f"more.yaml: nginx:{number}: ") and "make pin-images" in problem


def test_digests_are_written_into_each_file_and_renewed(folder: Path, programs: Path) -> None:
    for digest in (FIRST, SECOND):
        answer(programs, digest)
        assert set(pin(folder).values()) == {digest}
        assert digests(folder) == {image: {digest} for image in IMAGES}
        assert not any(PLACEHOLDER in file.read_text() for file in files(folder))


def test_nothing_is_written_unless_each_image_is_known(folder: Path, programs: Path) -> None:
    before = digests(folder)
    answer(programs, FIRST, known="python")
    with pytest.raises(PinFailed, match=r"skopeo has no digest of grafana/grafana:12\.1\.0: manifest unknown"):
        pin(folder)
    (programs / "skopeo").unlink()
    with pytest.raises(PinFailed, match="install one of docker, skopeo, crane"):
        pin(folder)
    assert digests(folder) == before
