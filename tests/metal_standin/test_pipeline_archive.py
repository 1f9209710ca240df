"""Compiled kernels on disk: what the next start finds, what it must not find, files that cannot be
used.
"""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path

import pytest
import torch

import npu_compiler
from npu_compiler.cache import CacheWarning
from npu_runtime import Executor, _native
from npu_runtime import device as device_module
from npu_runtime.device import Device
from npu_runtime.device_cache import clear_kernel_files, kernel_files
from tests.metal_standin.models import Chain, chain, is_right, run_chain
from tests.metal_standin.standin import VARIABLE, Standin
from tests.npu_compiler.harness import ir_of, trained_like

pytestmark = pytest.mark.filterwarnings("ignore:.*cannot be (kept|used)")

ADD = "MTLBinaryArchive addComputePipelineFunctionsWithDescriptor:error:"
WRITE = "MTLBinaryArchive serializeToURL:error:"
READ = "MTLDevice newBinaryArchiveWithDescriptor:error:"
USE = "MTLComputePipelineDescriptor setBinaryArchives:"


def _start(standin: Standin, folder: Path) -> tuple[Device, int]:
    """A new device that has run the model, and how many pipelines it compiled."""
    standin.set(macos=15)
    before = standin.compilations()
    device = standin.device()
    device.native.set_cache_folder(str(folder))
    assert is_right(run_chain(device))
    return device, standin.compilations() - before


@pytest.fixture
def stored(standin: Standin, tmp_path: Path) -> Path:
    """A folder in which the model's kernels are kept."""
    folder = tmp_path / "new" / "metal"
    assert not _start(standin, folder)[0].notes
    return folder


def test_the_second_start_compiles_nothing(standin: Standin, stored: Path) -> None:
    compiled, added = standin.compilations(), standin.messages(ADD)
    assert compiled == added > 0
    (file,) = stored.iterdir()
    written = file.stat().st_mtime_ns, file.read_bytes()
    device, again = _start(standin, stored)
    assert (again, standin.messages(ADD), device.notes) == (0, added, ())
    # Found, it counts as used now; it is not written again.
    assert standin.messages(WRITE) == 1
    assert file.stat().st_mtime_ns > written[0]
    assert file.read_bytes() == written[1]


@pytest.mark.parametrize("message", [READ, USE, ADD, WRITE])
def test_a_message_that_is_left_out_costs_a_compilation(
    standin: Standin, tmp_path: Path, message: str
) -> None:
    """None of them is needed for a right result; each is for what is kept."""
    standin.leave_out(message)
    device, first = _start(standin, tmp_path)
    _, second = _start(standin, tmp_path)
    assert 0 < first == second
    assert len(device.notes) == (message in (READ, ADD, WRITE))


def test_another_system_finds_nothing(standin: Standin, stored: Path) -> None:
    with standin.changed(build="23B74"):
        assert _start(standin, stored)[1] > 0
    assert len(list(stored.iterdir())) == 2
    assert _start(standin, stored)[1] == 0


class Longer(Chain):
    """Begins as the other model does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, 6)."""
        return torch.cumsum(super().forward(x), 1)


def test_another_program_has_a_file_of_its_own(standin: Standin, stored: Path) -> None:
    program = npu_compiler.compile(
        ir_of(trained_like(Longer()), [torch.randn(2, 3, 10, 10)]), compute_dtype="float32"
    )
    device, _ = _start(standin, stored)
    before = standin.compilations()
    Executor(program, device)
    assert standin.compilations() == before + 1
    assert len(list(stored.iterdir())) == 2
    # The pipelines that it shares with the first program are in its file as well.
    standin.reset()
    standin.set(macos=15)
    device = standin.device()
    device.native.set_cache_folder(str(stored))
    Executor(program, device)
    assert standin.compilations() == 0


def test_a_damaged_file_is_noted_and_replaced(standin: Standin, stored: Path) -> None:
    (file,) = stored.iterdir()
    whole = file.read_bytes()
    file.write_bytes(b"damaged")
    device, compiled = _start(standin, stored)
    assert compiled > 0
    (note,) = device.notes
    assert f"{file} cannot be used, its kernels are compiled anew" in note
    assert file.read_bytes() == whole
    # One that lacks something is replaced as well.
    file.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
    assert _start(standin, stored)[1] == 1
    assert file.read_bytes() == whole


def test_archives_are_closed_and_let_go_of(standin: Standin, stored: Path) -> None:
    def once() -> dict[str, int]:
        device, _ = _start(standin, stored)
        assert "MTLBinaryArchive" not in standin.live_objects()
        del device
        gc.collect()
        return standin.live_objects()

    assert once() == once()


def test_a_draft_that_cannot_take_its_place_is_removed(standin: Standin, stored: Path) -> None:
    (file,) = stored.iterdir()
    file.unlink()
    (file / "occupied").mkdir(parents=True)
    device, _ = _start(standin, stored)
    unusable, not_kept = device.notes
    assert "cannot be used" in unusable and "cannot be kept" in not_kept
    assert list(stored.iterdir()) == [file]


def test_the_oldest_files_go_where_there_are_too_many(standin: Standin, tmp_path: Path) -> None:
    def sparse(name: str, size: int, days: int) -> Path:
        path = tmp_path / name
        path.touch()
        os.truncate(path, size)
        used = time.time() + days * 86_400
        os.utime(path, (used, used))
        return path

    large = 300 << 20
    other = sparse("other.bin", large, -9)
    small = sparse("small.archive", 1000, -1)
    old = sparse("old.archive", large, -2)
    _start(standin, tmp_path)
    left = set(tmp_path.iterdir())
    assert {other, small} < left and old not in left
    # Its own file stays, whatever the clock says of others.
    (own,) = left - {other, small}
    own.unlink()
    later = sparse("later.archive", large, 2)
    _start(standin, tmp_path)
    assert set(tmp_path.iterdir()) == {other, own}
    assert not later.exists()


def test_a_folder_that_cannot_be_written(standin: Standin, tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    for folder, settings in ((occupied, {}), (tmp_path / "new", {"unwritable_archives": 1})):
        standin.set(**settings)
        device, compiled = _start(standin, folder)
        assert compiled > 0
        (note,) = device.notes
        assert f"compiled kernels cannot be kept in {folder}" in note
        assert ("Not a directory" in note) is (folder == occupied)
        assert "NPU_SIM_CACHE_DIR" in note
        with pytest.warns(CacheWarning, match="cannot be kept"):
            Executor(chain()[0], device)
    assert not any((tmp_path / "new").iterdir())


def test_shown_and_cleared(
    standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.set(macos=15)
    monkeypatch.setenv("NPU_SIM_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv(VARIABLE, str(standin.path))
    monkeypatch.setattr(device_module, "_opened", {})
    assert kernel_files() == []
    Executor(chain()[0], Device("metal"))
    (file,) = kernel_files()
    assert file.path.parent == tmp_path / "metal"
    assert file.size_bytes > 0
    left_behind = file.path.with_name(f".{file.path.name}.123")
    left_behind.touch()
    assert clear_kernel_files() == [file]
    assert list((tmp_path / "metal").iterdir()) == []


def test_older_systems_keep_nothing(standin: Standin, tmp_path: Path) -> None:
    standin.set(macos=14)
    device = standin.device()
    device.native.set_cache_folder(str(tmp_path))
    assert is_right(run_chain(device))
    assert (list(tmp_path.iterdir()), device.notes) == ([], ())


def test_other_devices_keep_nothing(tmp_path: Path) -> None:
    device = _native.Device("reference")
    device.set_cache_folder(str(tmp_path / "new"))
    assert device.notes == []
    assert not (tmp_path / "new").exists()
