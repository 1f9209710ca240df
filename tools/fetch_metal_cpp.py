"""Fetches Apple's metal-cpp headers: ``python tools/fetch_metal_cpp.py --out DIR``.

They come with the mlx-metal wheel (Apache-2.0), in the version that constraints.txt names, through
pip. Nothing is done where DIR holds that version already.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "mlx-metal"
# Where the headers lie in the wheel.
PREFIX = "mlx/include/metal_cpp/"


class FetchError(RuntimeError):
    """The headers cannot be had; the message says what to do instead."""


def pinned_version() -> str:
    """The version of the wheel in constraints.txt."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{PACKAGE}==(\S+)", text, re.M)
    if found is None:
        raise FetchError(f"constraints.txt pins no version of {PACKAGE}")
    return found[1]


def download(version: str, folder: Path) -> Path:
    """The wheel in ``folder``. It is for macOS; its headers are not."""
    command = [
        *(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary=:all:", "--platform", "macosx_14_0_arm64"),
        *("--python-version", "3.12", "-d", str(folder), f"{PACKAGE}=={version}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise FetchError(
            f"pip cannot download {PACKAGE} {version}: {done.stderr.strip()}\nGive the folder that "
            "holds Metal/Metal.hpp yourself: -DMETAL_CPP_DIR=..."
        )
    return wheels[0]


def fetch(out: Path) -> bool:
    """Put the headers into ``out``; False where they were there. Raises FetchError."""
    version = pinned_version()
    stamp = out / "VERSION"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == version:
        return False
    shutil.rmtree(out, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(download(version, Path(folder))) as wheel,
    ):
        for name in wheel.namelist():
            if name.startswith(PREFIX) and not name.endswith("/"):
                target = out / name.removeprefix(PREFIX)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(wheel.read(name))
    if not (out / "Metal" / "Metal.hpp").is_file():
        raise FetchError(f"{PACKAGE} {version} has no {PREFIX}Metal/Metal.hpp any more")
    stamp.write_text(version, encoding="utf-8")
    return True


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder for the headers")
    out = parser.parse_args().out
    try:
        if fetch(out):
            print(f"metal-cpp of {PACKAGE} {pinned_version()} is in {out}")
    except FetchError as error:
        sys.exit(f"metal-cpp: {error}")


if __name__ == "__main__":
    main()
