"""Names container images by digest: `make pin-images` asks the registry once and writes the answers into `deploy`.

    python -m scripts.pin_images            write the present digest of each image's tag
    python -m scripts.pin_images --check    fail if an image has neither a digest nor the placeholder of one

A tag may name other bytes tomorrow, a digest never. The repository has a placeholder, with which Docker and Kubernetes
refuse the image by name (`invalid reference format`), so a deployment can't start with bytes that its operator did not choose.
Each run writes the newest digests; the diff shows what changed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

DEPLOY = Path(__file__).parents[1] / "deploy"
PLACEHOLDER = "sha256:run-make-pin-images"
OWN_IMAGES = ("gate", "${GATE_IMAGE:?name")
"""The service's own, as manifests and compose name it: it is built here, or named by an overlay or a variable."""
RESOLVERS = (
    ("docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", "{image}"),
    ("skopeo", "inspect", "--no-tags", "--format", "{{.Digest}}", "docker://{image}"),
    ("crane", "digest", "{image}"),
)
"""Programs that ask a registry for the digest of a tag: the first that is installed is used."""
TIMEOUT_S = 60.0

_REFERENCE = re.compile(r"^(?:\s*-?\s*image:|FROM) +(?P<image>[^\s@]+)(?:@(?P<digest>\S+))?", re.MULTILINE)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class PinFailed(Exception):
    """A digest could not be had; the message says what to do."""


def files(folder: Path) -> list[Path]:
    """Every file that may name an image."""
    return sorted([*folder.rglob("*.yaml"), *folder.rglob("Containerfile")])


def references(file: Path) -> Iterator[tuple[str, str | None]]:
    """Each image with its digest or None, without images that are built here."""
    for match in _REFERENCE.finditer(file.read_text()):
        if match["image"] not in OWN_IMAGES:
            yield match["image"], match["digest"]


def unpinned(folder: Path) -> list[str]:
    """Lines about images that are named by a tag alone, or by a digest that is not one."""
    return [
        f"{file.relative_to(folder)}: {image}: add @{PLACEHOLDER}, and run: make pin-images"
        for file in files(folder)
        for image, digest in references(file)
        if digest != PLACEHOLDER and not _DIGEST.fullmatch(digest or "")
    ]


def pin(folder: Path) -> dict[str, str]:
    """Write the present digest of each image. Returns them by image. Raises `PinFailed`, and then has written nothing."""
    images = sorted({image for file in files(folder) for image, _ in references(file)})
    digests = {image: resolved(image) for image in images}
    for file in files(folder):
        text = file.read_text()
        for image, digest in digests.items():
            text = re.sub(rf"(?<=\s){re.escape(image)}(?:@\S+)?(?=\s)", f"{image}@{digest}", text)
        if text != file.read_text():
            file.write_text(text)
    return digests


def resolved(image: str) -> str:
    """The digest that the registry has for this tag now."""
    command = next((one for one in RESOLVERS if shutil.which(one[0])), None)
    if command is None:
        raise PinFailed(f"install one of {', '.join(one[0] for one in RESOLVERS)} to ask the registry for digests")
    words = [word.format(image=image) if "{image}" in word else word for word in command]
    try:
        ran = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise PinFailed(f"{command[0]} did not answer within {TIMEOUT_S:g} s about {image}") from None
    digest = ran.stdout.strip()
    if ran.returncode or not _DIGEST.fullmatch(digest):
        reason = (ran.stderr or ran.stdout).strip().splitlines()
        raise PinFailed(f"{command[0]} has no digest of {image}: {reason[-1] if reason else 'no output'}")
    return digest


def main(arguments: list[str]) -> int:
    """The exit status: 1 if an image is not pinned, or a registry can't be asked."""
    if arguments == ["--check"]:
        problems = unpinned(DEPLOY)
        print("\n".join(problems), end="\n" if problems else "")
        return 1 if problems else 0
    try:
        for image, digest in pin(DEPLOY).items():
            print(f"{image}@{digest}")
    except PinFailed as fault:
        print(f"pin-images: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
