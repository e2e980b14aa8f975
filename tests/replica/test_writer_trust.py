"""Whether a facts file that is found at the start may be served."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.errors import ReplicaForeign
from gate.replica import layout
from gate.replica import writer as writer_module
from gate.replica.layout import (
    META_BOOT,
    META_LAYOUT,
    app_record_key,
    check_settings_key,
    position_key,
)
from gate.replica.writer import FactsFile
from tests.replica.model import Changes, facts_in
from tests.replica.test_writer import EPOCH, START, changes, file, new_file

__all__ = ["changes", "file"]


class TestTrust:
    """Whether a file found at start may be served."""

    def closed(self, directory: Path, *, clean: bool) -> Path:
        file = new_file(directory)
        file.apply({0: [Changes(EPOCH).app_set()]}, 1)
        (file.close_clean if clean else file.close)()
        return file.path

    def reboot(self, monkeypatch: pytest.MonkeyPatch, boot: bytes = b"another boot") -> None:
        monkeypatch.setattr(writer_module, "boot_id", lambda: boot)
        monkeypatch.setattr(layout, "boot_id", lambda: boot)

    @pytest.mark.parametrize("clean", [True, False])
    def test_within_one_boot_any_end_will_do(self, tmp_path: Path, clean: bool) -> None:
        path = self.closed(tmp_path, clean=clean)
        file = FactsFile.open(path)
        assert file.positions[0].seq == 1
        assert file.positions[1] == START
        file.close()

    def test_after_a_reboot_a_clean_end_will_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.closed(tmp_path, clean=True)
        self.reboot(monkeypatch)
        FactsFile.open(path).close()

    def test_after_a_reboot_an_unclean_file_is_foreign(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.closed(tmp_path, clean=False)
        self.reboot(monkeypatch)
        with pytest.raises(ReplicaForeign, match="torn"):
            FactsFile.open(path)

    def test_a_file_that_was_opened_again_is_unclean_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = self.closed(tmp_path, clean=True)
        FactsFile.open(path).close()
        self.reboot(monkeypatch)
        with pytest.raises(ReplicaForeign, match="torn"):
            FactsFile.open(path)

    def test_without_a_boot_id_only_a_clean_end_is_trusted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.reboot(monkeypatch, b"unknown")
        path = self.closed(tmp_path, clean=False)
        with pytest.raises(ReplicaForeign, match="torn"):
            FactsFile.open(path)

    def test_another_layout_is_foreign(self, tmp_path: Path) -> None:
        file = new_file(tmp_path)
        with file.write() as txn:
            txn.put(META_LAYOUT, b"gate-replica-0")
        file.close()
        with pytest.raises(ReplicaForeign, match="layout"):
            FactsFile.open(file.path)

    @pytest.mark.parametrize(
        ("key", "value"), [(position_key(1), b"junk"), (position_key(0), b""), (layout.META_PARTITIONS, b"many")]
    )
    def test_unreadable_records_are_foreign(self, tmp_path: Path, key: bytes, value: bytes) -> None:
        file = new_file(tmp_path)
        with file.write() as txn:
            txn.put(key, value)
        file.close()
        with pytest.raises(ReplicaForeign):
            FactsFile.open(file.path)

    @pytest.mark.parametrize("clean", [True, False])
    @pytest.mark.parametrize("left", ["none", "outdated"])
    def test_settings_for_checks_that_an_older_version_left_out_are_added(
        self, tmp_path: Path, changes: Changes, clean: bool, left: str
    ) -> None:
        file = new_file(tmp_path)
        file.apply({0: [changes.app_set(), changes.app_set("other", require_registered=True)]}, 1)
        if left == "outdated":
            with file.read() as txn:
                outdated = bytes(txn.get(check_settings_key("app"), b""))
            file.apply({0: [changes.app_set(list_policy="both")]}, 1)
        with file.write() as txn:
            txn.delete(check_settings_key("app"))
            if left == "outdated":
                txn.put(check_settings_key("app"), outdated)
        (file.close_clean if clean else file.close)()
        again = FactsFile.open(file.path)
        assert facts_in(again).apps.keys() == {"app", "other"}
        again.close()

    def test_a_record_of_an_app_that_can_not_be_read_is_left_to_its_readers(self, tmp_path: Path) -> None:
        file = new_file(tmp_path)
        with file.write() as txn:
            txn.put(app_record_key("app"), b"\0\0\0\1{")
        file.close()
        FactsFile.open(file.path).close()

    def test_a_load_that_was_never_finished_is_foreign(self, tmp_path: Path) -> None:
        file = FactsFile.create(tmp_path / "facts-1.mdb", 2)
        file.close()
        with pytest.raises(ReplicaForeign):
            FactsFile.open(file.path)

    @pytest.mark.parametrize("content", [b"", b"\x00" * 8192, b"not LMDB at all" * 2000])
    def test_anything_else_is_foreign(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "facts-1.mdb"
        path.write_bytes(content)
        with pytest.raises(ReplicaForeign):
            FactsFile.open(path)

    def test_the_boot_is_kept_in_the_file(self, file: FactsFile) -> None:
        with file.read() as txn:
            assert txn.get(META_BOOT) == layout.boot_id()

    def test_a_slot_of_a_dead_reader_can_be_freed(self, file: FactsFile) -> None:
        assert file.check_readers() == 0
