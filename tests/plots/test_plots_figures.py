"""Every effect stands where its number says."""

from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.figure import Figure

mpl.use("agg")

import matplotlib.pyplot as plt

from asdlib import plots
from asdlib.plots.figures import BLUE, GREY, VERMILION


@pytest.fixture
def effects() -> pd.DataFrame:
    """Three variants of two groups, two panels; one is better, one worse, one unclear."""
    rows = [
        ("steps", "no crop", "AUC", 2.0, 1.0, 3.0),
        ("steps", "no mixing", "AUC", -2.0, -3.0, -1.0),
        ("losses", "NT-Xent", "AUC", 0.5, -1.0, 2.0),
        ("losses", "NT-Xent", "pAUC", 4.0, 3.0, 5.0),
    ]
    return pd.DataFrame(rows, columns=["group", "variant", "metric", "mean", "low", "high"])


def drawn(figure: Figure) -> dict[tuple[str, str], tuple[float, str, str, str]]:
    """Panel and row → value, marker, colour and face of its dot."""
    first = figure.axes[0]
    labels = [label.get_text() for label in first.get_yticklabels()]
    rows = dict(zip(first.get_yticks(), labels, strict=True))
    found = {}
    for axes in figure.axes:
        for line in axes.lines:
            if line.get_marker() != "None":
                (x,), (y,) = line.get_data()
                style = str(line.get_marker()), line.get_color(), line.get_markerfacecolor()
                found[axes.get_title(loc="left"), rows[y]] = (float(x), *style)
    return found


def test_effects_are_told_apart_without_colours(effects: pd.DataFrame) -> None:
    figure = plots.plot_effects(
        effects, panel="metric", group="group", row="variant", xlabel="difference (points)"
    )
    assert drawn(figure) == {
        ("AUC", "no crop"): (2.0, ">", BLUE, BLUE),
        ("AUC", "no mixing"): (-2.0, "<", VERMILION, VERMILION),
        ("AUC", "NT-Xent"): (0.5, "o", GREY, "white"),
        ("pAUC", "NT-Xent"): (4.0, ">", BLUE, BLUE),
    }
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    in_order = [
        label for _, label in sorted(zip(-figure.axes[0].get_yticks(), labels, strict=True))
    ]
    assert in_order == ["steps:", "no crop", "no mixing", "losses:", "NT-Xent"]
    key = "triangle: the interval leaves out zero, circle: it contains zero"
    assert figure.get_supxlabel() == f"difference (points); {key}"
    plt.close(figure)


def test_equal_figures_make_equal_files(effects: pd.DataFrame, tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        figure = plots.plot_effects(
            effects, panel="metric", group="group", row="variant", xlabel="points"
        )
        saved = plots.save_figure(figure, tmp_path / "figures" / "effects")
        assert [path.name for path in saved] == ["effects.png", "effects.svg"]
        assert not plt.fignum_exists(figure.number)
        contents.append(saved[0].read_bytes())
        assert b"<dc:date>" not in saved[1].read_bytes()
    assert contents[0] == contents[1]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "effects.png",
        "effects.svg",
    ]
