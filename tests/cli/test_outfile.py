"""What `gate export FILE` writes to keeps its kind, its mode and its links."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gate.cli.outfile import opened_for_writing
from gate.errors import InvalidInput
from tests.cli.command import Command

TEXT = b"written\n"


def write(path: Path | str) -> None:
    with opened_for_writing(str(path)) as stream:
        stream.write(TEXT)


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "old"
    path.write_bytes(b"what was there before, which is longer\n")
    path.chmod(0o640)
    yield path
    assert sorted(tmp_path.glob(".*")) == [], "a draft was left behind"


def test_a_new_file_is_private_and_appears_whole(tmp_path: Path) -> None:
    with opened_for_writing(str(tmp_path / "new")) as stream:
        stream.write(TEXT)
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new").read_bytes() == TEXT
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_a_regular_file_is_replaced_and_keeps_mode_and_owner(old: Path) -> None:
    if not os.geteuid():
        os.chown(old, 65_534, 65_534)
    before = old.stat()
    write(old)
    after = old.stat()
    assert old.read_bytes() == TEXT
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino


def test_a_failure_leaves_what_was_there(old: Path) -> None:
    before = old.read_bytes()
    with pytest.raises(KeyError), opened_for_writing(str(old)) as stream:
        stream.write(TEXT)
        raise KeyError
    assert old.read_bytes() == before


def test_a_symbolic_link_stays_one(old: Path) -> None:
    link, dangling = old.with_name("link"), old.with_name("dangling")
    link.symlink_to("old")
    dangling.symlink_to("made")
    for one in (link, dangling):
        write(one)
        assert one.is_symlink()
    assert old.read_bytes() == old.with_name("made").read_bytes() == TEXT


def test_hard_links_stay_links(old: Path) -> None:
    other = old.with_name("other")
    os.link(old, other)
    with pytest.raises(KeyError), opened_for_writing(str(old)) as stream:
        stream.write(TEXT)
        raise KeyError
    assert other.read_bytes() != TEXT
    write(old)
    assert other.read_bytes() == old.read_bytes() == TEXT
    assert other.samefile(old)


def test_a_fifo_stays_one_and_its_reader_gets_all(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.gz"
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    write(fifo)
    reader.join(10)
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert gzip.decompress(read[0]) == TEXT


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_stays_one(tmp_path: Path) -> None:
    null = tmp_path / "n"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        null = Path("/dev/null")
    before = null.stat()
    write(null)
    after = null.stat()
    assert (after.st_mode, after.st_rdev, after.st_ino) == (before.st_mode, before.st_rdev, before.st_ino)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "LINK", "-"])
def test_a_descriptor_is_written_where_it_stands(name: str, tmp_path: Path) -> None:
    (tmp_path / "LINK").symlink_to("/dev/stdout")
    log = tmp_path / "log"
    log.write_bytes(b"first\n")
    script = f"from gate.cli.outfile import opened_for_writing as o\nwith o({name!r}) as s: s.write({TEXT!r})"
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with log.open("ab") as out:
        subprocess.run([sys.executable, "-c", script], stdout=out, cwd=tmp_path, env=env, check=True, timeout=60)
    assert log.read_bytes() == b"first\n" + TEXT


def test_a_directory_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is a directory"):
        write(tmp_path)


def test_the_command_writes_to_what_exists(gate: Command, old: Path) -> None:
    gate("ban", "ann", "--permanent")
    link = old.with_name("link")
    os.link(old, link)
    gate("export", old)
    assert b'"ann"' in link.read_bytes()
    assert b'"ann"' in gate("export", "/dev/stdout").out.encode()
    gate("export", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert "Permission denied" in gate("export", "/proc/version", status=3).err or os.geteuid() == 0
    assert "/no/such" in gate("export", "/no/such/file", status=3).err


def test_a_refusal_names_the_file_that_was_given(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as refused:
        write(tmp_path / "none" / "facts")
    assert refused.value.filename == str(tmp_path / "none" / "facts")
    with pytest.raises(InvalidInput, match="is empty: name a file"):
        write("")
