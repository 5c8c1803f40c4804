"""The environment is declared once, in pyproject.toml; every other file must agree with it."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [
    Requirement(text)
    for text in (*PROJECT["dependencies"], *(r for e in EXTRAS.values() for r in e))
]
LOCK_LINES = [
    line
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
PYTHONS = ("3.11", "3.12", "3.13")


def locked(python: str) -> dict[str, Version]:
    """Name → version of what the lock installs on 64-bit Linux with this Python."""
    environment = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    chosen: dict[str, Version] = {}
    for requirement in map(Requirement, LOCK_LINES):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in chosen, f"{name} is locked twice for Python {python}"
            (pin,) = requirement.specifier
            chosen[name] = Version(pin.version)
    return chosen


def test_lock_holds_only_names_and_exact_versions() -> None:
    form = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!-]+( ; [^@]+)?")
    wrong = [line for line in LOCK_LINES if not form.fullmatch(line) or "://" in line]
    assert wrong == []


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_satisfies_every_declared_requirement(python: str) -> None:
    assert python in SpecifierSet(PROJECT["requires-python"])
    versions = locked(python)
    for requirement in DECLARED:
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is declared but not locked for Python {python}"
        assert requirement.specifier.contains(versions[name], prereleases=True), (
            f"{requirement} is declared, {versions[name]} is locked for Python {python}"
        )


def test_classifiers_name_the_supported_pythons() -> None:
    named = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    supported = [
        f"3.{m}" for m in range(8, 20) if f"3.{m}" in SpecifierSet(PROJECT["requires-python"])
    ]
    assert named == supported == list(PYTHONS)


def conda_dependencies() -> tuple[dict[str, str], list[str]]:
    """Conda packages (name → version or "") and pip lines of environment.yml."""
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))[
        "dependencies"
    ]
    conda = dict((*d.split("=", 1), "")[:2] for d in dependencies if isinstance(d, str))
    (pip,) = (d["pip"] for d in dependencies if isinstance(d, dict))
    return conda, pip


def test_conda_environment_follows_pyproject() -> None:
    conda, pip = conda_dependencies()
    assert conda["python"] in SpecifierSet(PROJECT["requires-python"])
    assert "pip" in conda
    (project,) = (line for line in pip if line.startswith("-e "))
    extras = re.fullmatch(r"-e \.\[([a-z,]+)\]", project)
    assert extras is not None, f"{project!r} does not install this project with an extra"
    assert set(extras[1].split(",")) <= set(EXTRAS)
    assert "book" in extras[1].split(",")
    # Anything else on pip's list would be a second place that names a requirement.
    assert [line for line in pip if not line.startswith("-e ")] == ["-c requirements.lock"]


def dry_run(*arguments: str) -> str:
    """What make would run."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_targets_install_the_locked_environment_first() -> None:
    for target in ["book", "check", "test", "lint", "bench"]:
        commands = dry_run(target)
        install = commands.index("--requirement requirements.lock")
        assert commands.index("-m venv .venv") < install < commands.index("--editable .")
        assert commands.index("--editable .") < commands.index("touch .venv/.installed")


def test_make_book_runs_the_study_then_renders_it() -> None:
    assert re.search(r"asd study --profile classroom\n.*asd book", dry_run("book"))
    assert "asd study --profile smoke" in dry_run("book", "PROFILE=smoke")


def test_make_runs_all_tests_or_the_quick_ones_each_process_on_one_thread() -> None:
    assert re.search(r"OMP_NUM_THREADS=1 .*pytest -n 2 --dist worksteal *\n", dry_run("test"))
    check = dry_run("check")
    assert "mypy" in check
    (line,) = (line for line in check.splitlines() if "-m pytest" in line)
    ignored = re.findall(r"--ignore=(\S+)", line)
    assert {"tests/book", "tests/cli", "tests/rendering"} <= set(ignored)
    assert all((ROOT / folder).is_dir() for folder in ignored)
    assert '-m "not slow"' in line


def test_make_clean_keeps_the_environment() -> None:
    commands = dry_run("clean")
    assert "_build" in commands
    assert ".venv" not in commands


def test_binder_installs_the_locked_library_with_the_extra_of_the_book() -> None:
    binder = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text(encoding="utf-8"))
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert binder["dependencies"] == [d for d in conda["dependencies"] if isinstance(d, str)]
    assert binder["channels"] == conda["channels"]
    script = ROOT / "binder" / "postBuild"
    assert script.stat().st_mode & 0o111
    text = script.read_text(encoding="utf-8")
    assert '--constraint requirements.lock --editable ".[book]"' in text
    (first,) = re.findall(r"asd study --profile smoke --only (\S+)", text)
    assert len(list((ROOT / "notebooks").glob(f"{first}*.ipynb"))) == 1


def test_ci_runs_the_tests_on_every_supported_python() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text(encoding="utf-8").rstrip().endswith("make test")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python-version"] == list(PYTHONS)


def test_the_citation_names_this_version_and_the_book_says_the_same() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert f"\n## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    (paper,) = citation["references"]
    assert paper["doi"] == "10.1145/3663976.3664242"
    assert "arXiv:2509.15570" in [i["value"] for i in paper["identifiers"]]
    text = (ROOT / "book" / "teaching" / "cite.md").read_text(encoding="utf-8")
    for part in (citation["title"], citation["version"], paper["title"], paper["doi"]):
        assert f"{{{part}}}" in text
    assert all(author["family-names"] in text for author in paper["authors"])
    assert "arXiv:2509.15570" in text


def test_the_archive_is_described_as_the_citation_is() -> None:
    archive = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    for name in ("title", "version", "license", "keywords"):
        assert archive[name] == citation[name], name
    assert archive["description"] == citation["abstract"].strip()
    assert [person["name"] for person in archive["creators"]] == [
        person["name"] for person in citation["authors"]
    ]
    related = {entry["identifier"] for entry in archive["related_identifiers"]}
    (paper,) = citation["references"]
    assert related == {paper["doi"], *(entry["value"] for entry in paper["identifiers"])}
