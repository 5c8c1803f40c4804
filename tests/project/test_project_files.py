"""The repository's own files: citation, workflows, what may never be committed."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

# Written in halves, so that this file does not break its own rule.
REGISTRY_HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("anaconda", "org"),
        ("download", "pytorch", "org"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
        ("deb", "debian", "org"),
    )
)
PRIVATE_PATHS = ("/".join(("", "work", "")), "/".join(("..", "shared")))
BINARY = {".npy", ".png", ".ico", ".wav", ".flac", ".safetensors", ".gz", ".zip"}


def tracked_files() -> list[Path]:
    """Tracked text files; in an unpacked archive without git, all files outside hidden folders."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        paths = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        skipped = {"_build", "build", "dist"}
        paths = [
            path
            for path in ROOT.rglob("*")
            if not any(p.startswith(".") or p in skipped for p in path.relative_to(ROOT).parts)
        ]
    return [path for path in paths if path.is_file() and path.suffix not in BINARY]


def naming(words: tuple[str, ...], *, allowed: tuple[str, ...] = ()) -> list[str]:
    """``path: word`` for every tracked file that holds one of the words."""
    found = []
    for path in tracked_files():
        name = path.relative_to(ROOT).as_posix()
        if name not in allowed:
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{name}: {word}" for word in words if word in text]
    return found


def test_no_file_names_the_host_of_a_package_registry() -> None:
    assert naming(REGISTRY_HOSTS) == []


def test_no_file_names_a_path_of_one_machine() -> None:
    assert naming(PRIVATE_PATHS, allowed=(".ci/run",)) == []


def test_citation_has_the_required_keys_and_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type", "license"} <= citation.keys()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]


def test_citation_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = citation["references"]
    assert paper["doi"] == "10.1145/3663976.3664242"
    assert "arXiv:2509.15570" in [i["value"] for i in paper["identifiers"]]
    assert [a["family-names"] for a in paper["authors"]] == ["Meng", "Guo", "Zhang", "Huang"]


@pytest.mark.parametrize("name", ["tests", "book", "weekly"])
def test_workflows_are_valid_and_run_make(name: str) -> None:
    path = ROOT / ".github" / "workflows" / f"{name}.yml"
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    # YAML 1.1 reads the bare key `on` as true.
    assert {True, "jobs", "permissions"} <= workflow.keys()
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert any(re.search(r"make (test|book|lint)|\.ci/run", step) for step in steps)
    assert all("timeout-minutes" in j for n, j in workflow["jobs"].items() if n != "publish")


def test_tests_run_on_every_supported_python() -> None:
    path = ROOT / ".github" / "workflows" / "tests.yml"
    job = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]["test"]
    assert job["strategy"]["matrix"]["python-version"] == ["3.11", "3.12", "3.13"]


def test_changelog_has_a_place_for_what_comes_next() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
