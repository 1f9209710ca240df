"""The workflows and the wheel configuration parse, and name commands and platforms that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_parses_and_its_make_targets_exist(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for job in workflow["jobs"].values():
        assert "runs-on" in job
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", "")):
                assert re.search(rf"^{target}:", makefile, re.M), target


def test_pythons_and_programs_are_those_of_the_project() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, builds = configuration["project"], configuration["tool"]["cibuildwheel"]["build"]
    wheels = {re.sub(r"cp3(\d+)-\*", r"3.\1", build) for build in builds.split()}
    oldest = project["requires-python"].removeprefix(">=")
    assert oldest == min(wheels, key=lambda version: int(version.split(".")[1]))
    steps = [
        step
        for path in WORKFLOWS
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
        for step in job["steps"]
    ]
    given = {s["with"]["python-version"] for s in steps if "setup-python" in s.get("uses", "")}
    assert given and given <= wheels
    run = {p for s in steps for p in re.findall(r"\.venv/bin/([\w-]+)", s.get("run", ""))}
    assert run and run <= project["scripts"].keys()


def test_only_the_publishing_job_may_ask_for_an_identity() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8"))
    asking = [n for n, job in workflow["jobs"].items() if "id-token" in job.get("permissions", {})]
    assert asking == ["publish"]
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")


def test_wheels_are_built_for_the_three_platforms() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    config = tool["cibuildwheel"]
    assert config["macos"]["environment"]["MACOSX_DEPLOYMENT_TARGET"] == "13.0"
    assert (config["linux"]["archs"], config["macos"]["archs"]) == (["native"], ["arm64"])
