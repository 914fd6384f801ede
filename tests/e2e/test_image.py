"""What is in the image that the demo and the tests run."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

import images

ROOT = Path(__file__).resolve().parents[2]
_UNCHECKED = 1


_USER = ":65532:"


@pytest.mark.e2e
def test_the_user_of_the_containers_has_no_name_as_on_the_base_of_the_dockerfile() -> None:
    names = [content.decode() for _, content in _files("etc/passwd")]
    assert names
    assert not any(_USER in name for name in names)


@pytest.mark.e2e
def test_no_process_compiles_again_what_the_image_has_compiled() -> None:
    kinds: Counter[int] = Counter()
    checked = []
    for name, content in _files(".pyc"):
        # PEP 552: flags in the second word; without them a file goes by the time of its source.
        flags = int.from_bytes(content[4:8], "little")
        kinds[flags] += 1
        checked += [name] if flags != _UNCHECKED else []
    assert kinds[_UNCHECKED] > 3000, kinds
    assert checked == []


def _files(end: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the image whose names end so, with what is in them."""
    archive, _ = images.application_archive(ROOT)
    with tarfile.open(archive) as outer:
        index = json.load(_member(outer, "index.json"))
        manifest = json.load(_member(outer, _blob(index["manifests"][0]["digest"])))
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=_member(outer, _blob(layer["digest"])), mode="r:*") as inner:
                yield from ((m.name, _member(inner, m.name).read()) for m in inner if m.name.endswith(end))


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    assert found is not None
    return found
