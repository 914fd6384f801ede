"""Image archives are the same, byte for byte, whoever writes them from the same content."""

from __future__ import annotations

import json
import os
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import images
from errors import DevclusterError
from oci import Layer, archive_identity, full_name, pack, settings, write_archive

SETTINGS = settings(["A=1"], "65532:65532")


def tree(folder: Path, *, umask: int = 0o22, moment: int = 1_700_000_000) -> Path:
    old = os.umask(umask)
    try:
        (folder / "sub").mkdir(parents=True)
        for name in ("b", "a", "sub/c"):
            (folder / name).write_text(name)
            os.utime(folder / name, (moment, moment))
        (folder / "run").write_text("#!/bin/sh\n")
        (folder / "run").chmod(0o700)
        (folder / "link").symlink_to("a")
    finally:
        os.umask(old)
    return folder


def layer(folder: Path, name: str) -> Layer:
    pack(folder, folder.parent / name, "app")
    return Layer.of(folder.parent / name)


def test_a_layer_does_not_depend_on_times_owners_or_the_umask(tmp_path: Path) -> None:
    one = layer(tree(tmp_path / "one"), "one.tar")
    two = layer(tree(tmp_path / "two", umask=0o77, moment=1_800_000_000), "two.tar")
    assert one.digest == two.digest
    assert one.path.read_bytes() == two.path.read_bytes()


def test_everyone_can_read_a_layer_and_run_its_programs(tmp_path: Path) -> None:
    packed = layer(tree(tmp_path / "one", umask=0o77), "one.tar")
    with tarfile.open(packed.path) as tar:
        modes = {member.name: member.mode for member in tar.getmembers()}
    assert modes == {
        "app/a": 0o644,
        "app/b": 0o644,
        "app/link": 0o777,
        "app/run": 0o755,
        "app/sub": 0o755,
        "app/sub/c": 0o644,
    }


def test_an_archive_is_written_only_if_something_changed(tmp_path: Path) -> None:
    layers = [layer(tree(tmp_path / "one"), "one.tar")]
    out = tmp_path / "image.tar"
    assert write_archive(out, "x:1", layers, SETTINGS)
    before = out.read_bytes()
    assert not write_archive(out, "x:1", layers, SETTINGS)
    assert write_archive(out, "x:2", layers, SETTINGS)
    assert write_archive(out, "x:1", layers, SETTINGS)
    assert out.read_bytes() == before


def test_a_changed_file_changes_the_identity(tmp_path: Path) -> None:
    folder = tree(tmp_path / "one")
    write_archive(tmp_path / "1.tar", "x:1", [layer(folder, "l1.tar")], SETTINGS)
    (folder / "a").write_text("other")
    write_archive(tmp_path / "2.tar", "x:1", [layer(folder, "l2.tar")], SETTINGS)
    assert archive_identity(tmp_path / "1.tar") != archive_identity(tmp_path / "2.tar")


def test_an_archive_holds_what_its_index_names(tmp_path: Path) -> None:
    only = layer(tree(tmp_path / "one"), "one.tar")
    write_archive(tmp_path / "image.tar", "supernode:1", [only], SETTINGS)
    name, digest = archive_identity(tmp_path / "image.tar")
    assert name == "docker.io/library/supernode:1"
    with tarfile.open(tmp_path / "image.tar") as tar:

        def blob(which: str) -> bytes:
            file = tar.extractfile("blobs/" + which.replace(":", "/"))
            assert file is not None
            return file.read()

        manifest = json.loads(blob(digest))
        config = json.loads(blob(manifest["config"]["digest"]))
        assert [item["digest"] for item in manifest["layers"]] == config["rootfs"]["diff_ids"] == [only.digest]
        assert blob(only.digest) == only.path.read_bytes()
    assert config["config"]["User"] == "65532:65532"
    assert "A=1" in config["config"]["Env"]


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("x", "docker.io/library/x:latest"),
        ("local/x:1", "docker.io/local/x:1"),
        ("localhost/x:1", "localhost/x:1"),
        ("registry.example:5000/x", "registry.example:5000/x:latest"),
    ],
)
def test_image_names_are_written_out_as_the_container_runtime_looks_for_them(name: str, full: str) -> None:
    assert full_name(name) == full


def test_a_missing_archive_is_an_error_that_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(DevclusterError, match=r"cluster\.py image"):
        archive_identity(tmp_path / "none.tar")


def test_a_file_that_is_no_archive_is_an_error_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_text("nothing")
    with pytest.raises(DevclusterError, match="no OCI image archive"):
        archive_identity(tmp_path / "x.tar")


def test_two_that_need_the_pause_image_at_once_write_it_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    alone, overlapping = threading.Lock(), []

    def write(*arguments: Any) -> bool:
        if not alone.acquire(blocking=False):
            overlapping.append(arguments[0])
            return False
        try:
            time.sleep(0.3)  # long enough for the other to come
            return write_archive(*arguments)
        finally:
            alone.release()

    monkeypatch.setattr(images, "write_archive", write)
    with ThreadPoolExecutor(2) as pool:
        one, two = (pool.submit(images.pause_archive) for _ in range(2))
        assert one.result(60) == two.result(60)
    assert one.result().stat().st_size > 0
    assert not overlapping
