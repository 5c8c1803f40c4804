"""Commands of the project: execute the notebooks, render the book and slides, teach with it.

Their code lies in the project's folders ``book/tools`` and ``teaching`` and is no part of the
installed library. So these commands work in a checkout of the project: they look for its
``_toc.yml`` in the current folder and above it, and load the code from there.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from asdlib.cli import console
from asdlib.cli.console import app, err_console, print_frame, say
from asdlib.errors import AsdError, ConfigError

ProfileOption = Annotated[str, typer.Option(help="profile whose executed notebooks are shown")]
WorkspaceOption = Annotated[
    Path | None, typer.Option(help="workspace of the study; default build/study of the project")
]


def find_project() -> Path:
    """Find the project's folder: the first from the current one upwards with a ``_toc.yml``."""
    from asdlib.study import project_folder

    folder = project_folder()
    if not (folder / "book" / "tools").is_dir():
        raise ConfigError(
            f"'{folder}' lies in no checkout of the project (no _toc.yml here or above); go "
            "into one"
        )
    return folder


def load(project: Path, module: str) -> Any:
    """Import a module of the project, which is not installed with the library."""
    folder, _, name = module.rpartition("/")
    path = str(project / folder)
    if path not in sys.path:
        sys.path.insert(0, path)
    return importlib.import_module(name)


@app.command("study")
def study_command(
    profile: Annotated[str, typer.Option(help="smoke, classroom, toycar, dcase2020 to 2026")] = (
        "classroom"
    ),
    out: WorkspaceOption = None,
    store: Annotated[Path | None, typer.Option(help="real feature store (toycar)")] = None,
    data_root: Annotated[Path | None, typer.Option(help="folder of the downloads")] = None,
    notebooks: Annotated[
        Path | None, typer.Option(help="folder of notebooks; default notebooks of the project")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="START", help="only notebooks whose names start so")
    ] = None,
    force: Annotated[bool, typer.Option(help="also run what did not change")] = False,
    jobs: console.Jobs = None,
    scheduler: console.Scheduler = None,
    resources: console.Resources = None,
) -> None:
    """Run the notebooks that changed, several at a time; failures do not stop the others."""
    project = find_project()
    started = time.perf_counter()
    if cluster := console.cluster(scheduler, resources):
        from asdlib.study.study import SCHEDULER

        os.environ[SCHEDULER] = json.dumps([cluster.address, cluster.needs])
    outcomes = load(project, "book.tools.execute").run_notebooks(
        profile,
        notebooks=notebooks or project / "notebooks",
        workspace=out or project / "build" / "study",
        store=store,
        data_root=data_root,
        only=only,
        force=force,
        jobs=jobs,
        say=lambda line: err_console.print(line, markup=False),
    )
    rows = [
        {"notebook": o.name, "outcome": o.status, "seconds": f"{o.seconds:.1f}"} for o in outcomes
    ]
    print_frame(rows, f"study on profile {profile}")
    say(f"{len(rows)} notebooks in {time.perf_counter() - started:.1f} s")
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        err_console.print(f"\n{outcome.name}:\n{outcome.error}", markup=False)
    if failed:
        raise AsdError(
            f"{len(failed)} of {len(outcomes)} notebooks failed: "
            f"{', '.join(outcome.name for outcome in failed)}; see the traceback above"
        )


@app.command()
def book(
    profile: ProfileOption = "classroom",
    out: WorkspaceOption = None,
    html: Annotated[
        Path | None, typer.Option(help="folder to write; default _build/html of the project")
    ] = None,
    pdf: Annotated[
        Path | None, typer.Option(help="print it as one PDF to this file; needs Chromium")
    ] = None,
    epub: Annotated[Path | None, typer.Option(help="write it as EPUB, without sounds")] = None,
) -> None:
    """Render the book with the executed notebooks of a profile."""
    project = find_project()
    places = {"project": project, "workspace": out or project / "build" / "study"}
    if pdf is not None:
        made = load(project, "book.tools.pdf").print_book(pdf, profile, **places)
    elif epub is not None:
        made = load(project, "book.tools.render").write_epub(epub, profile, **places)
    else:
        made = load(project, "book.tools.render").build_book(profile, html=html, **places)
    say(f"the book is at {made}")


@app.command()
def slides(
    out: Annotated[Path, typer.Argument(help="HTML file to write")] = Path("build/slides.html"),
    profile: ProfileOption = "classroom",
    study: WorkspaceOption = None,
    lesson: Annotated[bool, typer.Option(help="the 15 slides of the lesson, with sound")] = False,
) -> None:
    """Make slides from the figures of the executed notebooks: one HTML file, printable."""
    project = find_project()
    places = {"project": project, "workspace": study or project / "build" / "study"}
    write_slides = load(project, "book.tools.slides").write_slides
    say(f"{write_slides(out, profile, **places, lesson=lesson)} slides in {out}")


@app.command()
def student_data(
    name: Annotated[str, typer.Argument(help="name or number of the student")],
    out: Annotated[Path, typer.Argument(help="folder to make")],
    profile: Annotated[str, typer.Option(help="size: smoke or classroom")] = "smoke",
    jobs: console.Jobs = None,
) -> None:
    """Write synthetic recordings for one student: the same machines as all, clips of their own."""
    students = load(find_project(), "teaching/exercises/students")
    table = students.write_student_data(name, out, profile=profile, jobs=jobs)
    say(f"{len(table)} clips of seed {students.student_seed(name)} in {out}")


@app.command()
def check_answers(
    notebook: Annotated[Path, typer.Argument(help="filled exercise notebook")],
    originals: Annotated[
        Path | None, typer.Option(help="exercises as handed out; default those of the project")
    ] = None,
    as_json: console.AsJson = False,
    timeout: Annotated[int, typer.Option(min=1, help="seconds that a cell may take")] = 120,
) -> None:
    """Run an exercise notebook in a kernel of its own and check its answers."""
    project = find_project()
    grading = load(project, "teaching/grading")
    marks = grading.check_answers(notebook, originals or grading.EXERCISES, timeout=timeout)
    if as_json:
        typer.echo(grading.marks_to_json(marks))
    else:
        print_frame([mark.as_row() for mark in marks], notebook.name)
    wrong = [mark for mark in marks if mark.hint]
    if wrong:
        raise AsdError(f"{len(wrong)} of {len(marks)} answers are not right yet: {wrong[0].hint}")
    say(f"all {len(marks)} answers are right")
