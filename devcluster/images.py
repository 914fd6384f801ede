"""The product's image and the pods' sandbox image, built without pulling anything.

Three layers: Debian's Python (mmdebstrap), the pinned dependencies (pip), the product. Each is cached under a hash of
what it is made from, so that an unchanged layer is never built or imported again. Everything is compiled: 16 cabinets
that start at once on two cores must not each compile the same modules.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from binaries import cache_root, pip_command
from configs import PAUSE_IMAGE
from errors import DevclusterError, run
from instance import locked
from oci import Layer, archive_identity, pack, settings, write_archive
from progress import say, watch

__all__ = ["application_archive", "archive_identity", "pause_archive"]

_HERE: Final = Path(__file__).resolve().parent
_PYTHON: Final = "3.11"  # Debian 12's
_USER: Final = "65532:65532"
_RECIPE: Final = 1
"""Goes up when layers are made otherwise than before."""
_KEPT_LAYERS: Final = 3  # of each kind: branches take turns
_COMPILE: Final = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")


def pause_archive() -> Path:
    """Return the archive of the sandbox image, a static C program, building it if needed."""
    source = _HERE / "pause.c"
    target = cache_root() / "images" / f"pause-{_short(source.read_bytes())}.tar"
    if not target.exists():
        layer = _layer("pause", source.read_bytes(), _build_pause)
        with locked(cache_root() / "images" / "lock"):
            write_archive(target, PAUSE_IMAGE, [layer], settings([], "65535:65535", ["/pause"]))
    return target


def application_archive(root: Path, out: Path | None = None) -> tuple[Path, str]:
    """Return the archive of the product's image and its name, building what has changed."""
    pyproject = tomllib.loads((root / "pyproject.toml").read_text())
    version = pyproject["project"]["version"]
    name = f"docker.io/library/supernode:{version}"
    lock = root / "requirements-image.lock"
    if not lock.exists():
        raise DevclusterError(f"{lock} is missing: the image's dependencies are pinned there")
    base = _layer("base", (_HERE / "mkbase.sh").read_bytes(), _build_base)
    recipe = f"{_RECIPE} {platform.machine()} {_PYTHON} ".encode()
    deps = _layer("deps", recipe + lock.read_bytes(), lambda target: _build_dependencies(lock, target))
    sources = [root / package for package in pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
    product = _layer("product", recipe + _content(sources), lambda target: _build_product(sources, target))
    target = out or cache_root() / "images" / f"supernode-{version}.tar"
    env = ["PYTHONPATH=/app:/deps", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"]
    with locked(cache_root() / "images" / "lock"):
        written = write_archive(target, name, [base, deps, product], settings(env, _USER))
    say(f"image {name}: {'written' if written else 'unchanged'}, {target.stat().st_size >> 20} MiB")
    return target, name


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _layer(kind: str, made_from: bytes, build: Callable[[Path], None]) -> Layer:
    folder = cache_root() / "images" / "layers"
    target = folder / f"{kind}-{_short(made_from)}.tar"
    with locked(folder / f"{kind}.lock"):
        if not target.exists():
            partial = folder / f"{kind}.partial"
            build(partial)
            partial.replace(target)
        layer = Layer.of(target)
        ages = sorted(folder.glob(f"{kind}-*.tar"), key=lambda path: path.stat().st_mtime)
        for old in ages[:-_KEPT_LAYERS]:
            if old != target:
                old.unlink()
                old.with_name(old.name + ".sha256").unlink(missing_ok=True)
    return layer


def _content(folders: list[Path]) -> bytes:
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and not path.name.endswith(".pyi"):
                digest.update(f"{folder.name}/{path.relative_to(folder)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def _build_pause(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run("gcc", "-static", "-Os", "-s", "-o", f"{folder}/pause", _HERE / "pause.c")
        pack(Path(folder), target)


def _build_base(target: Path) -> None:
    if os.geteuid() != 0:
        raise DevclusterError("the base layer of the image is built as root; run: cluster.py image")
    partial = target.with_suffix(".tar")  # mmdebstrap chooses the format by the name
    env = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
    log = cache_root() / "log" / "image-base.log"
    argv = ["sh", str(_HERE / "mkbase.sh"), str(partial)]
    watch("building the image's base layer", 25, argv, cwd=_HERE, env=env, log=log)
    partial.replace(target)


def _build_dependencies(lock: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        folder = Path(temporary) / "deps"
        machine = platform.machine()
        argv = [*pip_command(), "install", "--quiet", "--target", str(folder), "--no-deps", "--no-compile"]
        argv += ["--only-binary=:all:", "--implementation", "cp", "--python-version", _PYTHON]
        for tag in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"):
            argv += ["--platform", f"{tag}_{machine}"]
        argv += ["--require-hashes", "-r", str(lock)]
        log = cache_root() / "log" / "image-deps.log"
        env = {key: value for key, value in os.environ.items() if key != "PIP_REQUIRE_VIRTUALENV"}
        watch("building the image's dependencies", 20, argv, cwd=target.parent, env=env, log=log)
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and path.name in ("tests", "__pycache__"):
                shutil.rmtree(path)
            elif path.suffix == ".pyi":
                path.unlink()
        shutil.rmtree(folder / "bin", ignore_errors=True)
        _compile(folder, "/deps")
        pack(folder, target, "deps")


def _build_product(sources: list[Path], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        folder = Path(temporary) / "app"
        folder.mkdir()
        for source in sources:
            shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__", "*.pyi"))
        _compile(folder, "/app")
        pack(folder, target, "app")


def _compile(folder: Path, seen_as: str) -> None:
    python = next((name for name in (sys.executable, "/usr/bin/python3", f"python{_PYTHON}") if _is_python(name)), None)
    if python is None:
        say(f"no Python {_PYTHON} here to compile {seen_as} with: pods will start more slowly")
        return
    # Files in foreign syntax inside some dependency are no concern of ours: the exit status is not looked at.
    run(python, *_COMPILE, "-s", folder, "-p", seen_as, folder, check=False)


def _is_python(program: str) -> bool:
    try:
        done = subprocess.run([program, "--version"], check=False, capture_output=True, text=True)
    except OSError:
        return False
    return done.stdout.startswith(f"Python {_PYTHON}.")
