"""OCI image archives: a tar that holds an OCI layout, written the same, byte for byte, from the same content.

Layers are plain tars: on one machine compressing costs more than it saves. `index.json` comes early in the archive,
so that what an archive holds is read without reading it all.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from errors import DevclusterError

__all__ = ["Layer", "archive_identity", "build_manifest", "full_name", "pack", "settings", "write_archive"]

_TYPE: Final = "application/vnd.oci.image."
_EPOCH: Final = "1970-01-01T00:00:00Z"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's tar file with its digest and size."""

    path: Path
    digest: str
    size: int

    @classmethod
    def of(cls, path: Path) -> Layer:
        """Return the layer in a tar file; the digest is kept beside it."""
        beside = path.with_name(path.name + ".sha256")
        if not beside.exists() or beside.stat().st_mtime < path.stat().st_mtime:
            with path.open("rb") as file:
                beside.write_text("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
        return cls(path, beside.read_text(), path.stat().st_size)


def full_name(name: str) -> str:
    """Return the name that containerd's CRI looks for: registry and `library` written out, a tag always there."""
    head, _, rest = name.partition("/")
    if not rest or not ("." in head or ":" in head or head == "localhost"):
        name = "docker.io/" + (name if rest else "library/" + name)
    return name if ":" in name.rpartition("/")[2] else name + ":latest"


def pack(folder: Path, target: Path, prefix: str = "") -> None:
    """Write a folder as a layer: sorted, owned by root, without times, readable by everyone."""

    def clean(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        info.mtime = 0
        info.mode = 0o777 if info.issym() else 0o755 if info.isdir() or info.mode & 0o100 else 0o644
        return info

    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(os.listdir(folder)):
            tar.add(folder / name, os.path.join(prefix.strip("/"), name), filter=clean)


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _describe(data: bytes, kind: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": f"{_TYPE}{kind}.v1+json", "digest": _digest(data), "size": len(data), **more}


def build_manifest(layers: Sequence[Layer], settings: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return an image's configuration and manifest."""
    config = {
        "created": _EPOCH,
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": dict(settings),
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
    }
    config_bytes = json.dumps(config, sort_keys=True).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_TYPE}manifest.v1+json",
        "config": _describe(config_bytes, "config"),
        "layers": [
            {"mediaType": f"{_TYPE}layer.v1.tar", "digest": layer.digest, "size": layer.size} for layer in layers
        ],
    }
    return config_bytes, json.dumps(manifest, sort_keys=True).encode()


def write_archive(target: Path, name: str, layers: Sequence[Layer], settings: Mapping[str, Any]) -> bool:
    """Write an image archive unless the file holds exactly this image; say whether it was written."""
    config, manifest = build_manifest(layers, settings)
    full = full_name(name)
    if target.exists() and archive_identity(target) == (full, _digest(manifest)):
        return False
    names = {"io.containerd.image.name": full, "org.opencontainers.image.ref.name": full.rpartition(":")[2]}
    index = {
        "schemaVersion": 2,
        "mediaType": f"{_TYPE}index.v1+json",
        "manifests": [_describe(manifest, "manifest", annotations=names)],
    }
    small = [
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        ("index.json", json.dumps(index, sort_keys=True).encode()),
        (_blob(_digest(manifest)), manifest),
        (_blob(_digest(config)), config),
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    with tarfile.open(partial, "w") as tar:
        for path, data in small:
            tar.addfile(_entry(path, len(data)), io.BytesIO(data))
        for layer in {layer.digest: layer for layer in layers}.values():
            with layer.path.open("rb") as file:
                tar.addfile(_entry(_blob(layer.digest), layer.size), file)
    partial.replace(target)
    return True


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _entry(path: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.size = size
    info.mode = 0o644
    return info


def archive_identity(path: Path) -> tuple[str, str]:
    """Return the name and the manifest digest of the first image in an archive."""
    try:
        with tarfile.open(path) as tar:
            file = tar.extractfile("index.json")
            first = json.load(file)["manifests"][0] if file else {}
    except FileNotFoundError as error:
        raise DevclusterError(f"{path} does not exist; build the product's image with: cluster.py image") from error
    except (tarfile.TarError, KeyError, IndexError, ValueError) as error:
        raise DevclusterError(f"{path} is no OCI image archive: {error}") from error
    annotations = first.get("annotations", {})
    return str(annotations.get("io.containerd.image.name", "")), str(first.get("digest", ""))


def settings(env: Iterable[str], user: str, entrypoint: Iterable[str] = ()) -> dict[str, Any]:
    """Return the part of an image's configuration that says how it runs."""
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    value: dict[str, Any] = {"Env": [path, *env], "User": user, "WorkingDir": "/"}
    if chosen := list(entrypoint):
        value["Entrypoint"] = chosen
    return value
