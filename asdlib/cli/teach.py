"""Commands for lessons: data for a student, answers checked, slides from the book's figures."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from asdlib.cli.console import print_frame, say
from asdlib.errors import AsdError


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command("student-data")(student_data)
    app.command("check-answers")(check_answers_command)
    app.command()(slides)


def student_data(
    name: Annotated[str, typer.Argument(help="name or number of the student")],
    out: Annotated[Path, typer.Argument(help="folder to make")],
    profile: Annotated[str, typer.Option(help="size: smoke or classroom")] = "smoke",
    jobs: Annotated[int | None, typer.Option(min=1, help="processes; default: cores")] = None,
) -> None:
    """Write synthetic recordings for one student: the same machines as all, clips of their own."""
    from asdlib.study.teaching import student_seed, write_student_data

    table = write_student_data(name, out, profile=profile, jobs=jobs)
    say(f"{len(table)} clips of seed {student_seed(name)} in {out}")


def check_answers_command(
    notebook: Annotated[Path, typer.Argument(help="filled exercise notebook")],
    originals: Annotated[Path, typer.Option(help="exercises as handed out")] = Path(
        "teaching/exercises"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, for a gradebook")] = False,
    timeout: Annotated[int, typer.Option(min=1, help="seconds that a cell may take")] = 120,
) -> None:
    """Run an exercise notebook in a kernel of its own and check its answers."""
    from asdlib.study.teaching import check_answers, marks_to_json

    marks = check_answers(notebook, originals, timeout=timeout)
    if as_json:
        typer.echo(marks_to_json(marks))
    else:
        rows = [
            (m.exercise.removeprefix("check-"), f"{m.points:g} of {m.of:g}", m.hint or "right")
            for m in marks
        ]
        print_frame(pd.DataFrame(rows, columns=["exercise", "points", "answer"]), notebook.name)
    wrong = [mark for mark in marks if mark.hint]
    if wrong:
        raise AsdError(f"{len(wrong)} of {len(marks)} answers are not right yet: {wrong[0].hint}")
    say(f"all {len(marks)} answers are right")


def slides(
    out: Annotated[Path, typer.Argument(help="HTML file to write")] = Path("build/slides.html"),
    profile: Annotated[str, typer.Option(help="profile whose executed notebooks are shown")] = (
        "classroom"
    ),
    study: Annotated[Path, typer.Option(help="workspace of the study")] = Path("build/study"),
    source: Annotated[Path, typer.Option(help="folder with _toc.yml")] = Path(),
) -> None:
    """Make slides from the figures of the executed notebooks: one HTML file, printable."""
    from asdlib.study.slides import write_slides

    count = write_slides(out, profile, workspace=study, source=source)
    say(f"{count} slides in {out}")
