"""ProgramCache: hits, keys, damaged files, limits, folders that cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from npu_compiler import cache as cache_module
from npu_compiler.cache import CacheWarning, ProgramCache, default_directory, source_digest
from npu_compiler.compiled_program import CompiledProgram
from npu_compiler.errors import CacheError
from tests.npu_runtime.linked import compiled, linked


class Compiler:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> CompiledProgram:
        self.calls += 1
        return linked()


@pytest.fixture
def programs(tmp_path: Path) -> ProgramCache:
    """An empty cache."""
    return ProgramCache(tmp_path / "cache")


def test_the_second_time_comes_from_disk(programs: ProgramCache) -> None:
    make = Compiler()
    first = programs.get_or_compile(["model", b"options"], make)
    second = programs.get_or_compile(["model", b"options"], make)
    assert make.calls == 1
    assert second is not first
    assert second.to_bytes() == first.to_bytes()
    assert second.metadata == first.metadata
    assert second.path == programs.entries()[0].path
    (entry,) = programs.entries()
    assert entry.size_bytes == entry.path.stat().st_size > 0
    assert programs.get_or_compile(["model", b"other options"], make) is first
    assert make.calls == 2
    assert len(programs.entries()) == 2


def test_keys_tell_all_parts_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        ProgramCache.key(*parts)
        for parts in ([], [""], ["ab"], ["a", "b"], ["b", "a"], ["ab", ""], [b"abc"])
    }
    assert len(keys) == 7
    assert ProgramCache.key("a") == ProgramCache.key(b"a")
    before = ProgramCache.key("a")
    monkeypatch.setattr(cache_module.schema, "VERSION_MINOR", 99)
    assert ProgramCache.key("a") != before
    monkeypatch.undo()
    monkeypatch.setattr(cache_module, "source_digest", lambda package: "another compiler")
    assert ProgramCache.key("a") != before


def test_the_digest_of_a_package_follows_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "a.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    first = source_digest.__wrapped__("some_package")
    (package / "note.txt").write_text("no source")
    assert source_digest.__wrapped__("some_package") == first
    (package / "inner" / "a.py").write_text("x = 2")
    assert source_digest.__wrapped__("some_package") != first
    with pytest.raises(CacheError, match="'no_such_package' is no package"):
        source_digest("no_such_package")


def damaged(data: bytes) -> dict[str, bytes]:
    """Files that are no program, or not the one that was stored."""
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    return {
        "empty": b"",
        "cut": data[:-100],
        "flipped bit": bytes(flipped),
        "text": b"not a program at all" * 10,
        "another program": compiled(1).to_bytes(),
    }


@pytest.mark.parametrize("damage", sorted(damaged(b"\0" * 200)))
def test_a_damaged_file_is_reported_and_replaced(programs: ProgramCache, damage: str) -> None:
    make = Compiler()
    programs.get_or_compile(["model"], make)
    (entry,) = programs.entries()
    good = entry.path.read_bytes()
    entry.path.write_bytes(damaged(good)[damage])
    with pytest.warns(CacheWarning, match=f"compiled anew: .*{entry.key}"):
        program = programs.get_or_compile(["model"], make)
    assert make.calls == 2
    assert program.to_bytes() == linked().to_bytes()
    assert entry.path.read_bytes() == good


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    size = len(linked().to_bytes())
    programs = ProgramCache(tmp_path, max_bytes=3 * size + size // 2)
    make = Compiler()
    for age, name in enumerate("abc"):
        programs.get_or_compile([name], make)
        os.utime(programs.entries()[0].path, (1000 + age, 1000 + age))
    programs.get_or_compile(["a"], make)
    programs.get_or_compile(["d"], make)
    kept = {entry.key for entry in programs.entries()}
    assert kept == {ProgramCache.key(name) for name in "acd"}
    tiny = ProgramCache(tmp_path, max_bytes=1)
    tiny.get_or_compile(["e"], make)
    assert [entry.key for entry in tiny.entries()] == [ProgramCache.key("e")]


def test_clearing_leaves_other_files_alone(programs: ProgramCache) -> None:
    assert programs.entries() == programs.clear() == []
    programs.get_or_compile(["a"], Compiler())
    other = programs.directory / "mine.npubin"
    other.write_bytes(b"a program of the user's")
    left_behind = programs.directory / f".{ProgramCache.key('x')}.npubin.abcd"
    left_behind.write_bytes(b"half of it")
    assert [entry.key for entry in programs.clear()] == [ProgramCache.key("a")]
    assert list(programs.directory.iterdir()) == [other]


def test_a_folder_that_cannot_be_written_is_reported_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    programs = ProgramCache(tmp_path / "file" / "cache")
    make = Compiler()
    with pytest.warns(CacheWarning, match="set NPU_SIM_CACHE_DIR to a folder"):
        assert programs.get_or_compile(["a"], make) is linked()
    assert make.calls == 1


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPU_SIM_CACHE_DIR", str(tmp_path / "given"))
    assert default_directory() == ProgramCache().directory == tmp_path / "given"
    monkeypatch.delenv("NPU_SIM_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_directory() == tmp_path / "xdg" / "npu_sim"
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("relative", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert default_directory().is_relative_to(tmp_path)
        assert default_directory().name == "npu_sim"

    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", staticmethod(homeless))
    with pytest.raises(CacheError, match="set NPU_SIM_CACHE_DIR"):
        default_directory()
