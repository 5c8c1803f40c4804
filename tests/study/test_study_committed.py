"""Results that are kept with the code: read back, shown, told in words."""

import json
from pathlib import Path

import pandas as pd
import pytest

from asdlib.errors import RunError
from asdlib.plots.differences import plot_differences, plot_systems
from asdlib.plots.intervals import save_figure
from asdlib.study.committed import (
    ablation_verdict,
    find_kept,
    load_kept,
    paired_table,
    results_folder,
)
from asdlib.study.comparison import published_rows

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make kept results by hand, with numbers that can be checked."""
    out = tmp_path / "results" / "toycar"
    (out / "ablation").mkdir(parents=True)
    rows = [
        (system, seed, machine, section, auc + 0.01 * seed, auc - 0.1)
        for system, auc in (("statistics", 0.9), ("contrastive", 0.95))
        for seed in ((0,) if system == "statistics" else (0, 1))
        for machine, section in (
            *(("ToyCar", name) for name in ("01", "02", "Average")),
            ("Average", "Average"),
        )
    ]
    columns = ["system", "seed", "machine", "section", "auc", "pauc"]
    pd.DataFrame(rows, columns=columns).to_csv(out / "systems.csv", index=False)
    table = published_rows(2020, "ToyCar").query("split == 'development'")
    own = table.iloc[:2].assign(
        system=["statistics", "contrastive"],
        origin="measured",
        auc=[0.9, 0.955],
        auc_low=[0.88, 0.94],
        auc_high=[0.92, 0.97],
        interval=["clips", "seeds"],
    )
    pd.concat([own, table]).to_csv(out / "comparison.csv", index=False)
    pd.DataFrame(
        [
            ("contrastive", "statistics", "Average", "Average", "auc", 0.055, 0.01, 0.1, 0.02),
            ("contrastive", "statistics", "Average", "Average", "pauc", 0.05, -0.01, 0.1, 0.2),
        ],
        columns=[
            "system",
            "reference",
            "machine",
            "section",
            "metric",
            "difference",
            "low",
            "high",
            "p_value",
        ],
    ).to_csv(out / "paired.csv", index=False)
    told = {"runs": {"a": {}, "b": {}, "c": {}}, "data": "a toy", "finished": "2026-01-02T03:04"}
    (out / "provenance.json").write_text(json.dumps(told))
    summary = [
        ("reference", "full", "{}", "Average", metric, None, None, None)
        for metric in ("auc", "pauc")
    ] + [
        ("steps", "no mixup", "{}", "Average", "auc", -2.0, -3.0, -1.0),
        ("steps", "no mixup", "{}", "Average", "pauc", -2.0, -5.0, 1.0),
        ("data", "half", "{}", "Average", "auc", 1.0, 0.5, 1.5),
        ("data", "half", "{}", "Average", "pauc", 1.0, -0.5, 2.5),
    ]
    columns = ["group", "variant", "changes", "machine", "metric"]
    columns += ["difference", "difference_low", "difference_high"]
    pd.DataFrame(summary, columns=columns).to_csv(out / "ablation" / "summary.csv", index=False)
    pd.DataFrame({"variant": ["full", "full", "half"], "seed": [0, 1, 0]}).to_csv(
        out / "ablation" / "ablation.csv", index=False
    )
    told = {"params": {"epochs": 3}, "seeds": 2, "failures": []}
    (out / "ablation" / "provenance.json").write_text(json.dumps(told))
    return out


def test_kept_results_are_shown(folder: Path, tmp_path: Path) -> None:
    kept = load_kept(folder)
    assert kept.measured()["system"].tolist() == ["statistics", "contrastive"]
    shown = kept.shown("measured")
    assert shown["auc"].tolist() == ["90.00 [88.00, 92.00]", "95.50 [94.00, 97.00]"]
    assert shown["interval over"].tolist() == ["clips", "seeds"]
    # What the rows share is told once, what differs stands in the table.
    told = {"data", "split", "training data", "selection"}
    shared = {name for name in told if f"{name}: " in kept.shared()}
    assert shared == told - set(shown)
    assert "data: DCASE 2020 Task 2 ToyCar" in kept.shared()
    assert told | {"source"} <= set(kept.shown("published"))
    sections = kept.sections().set_index("system")
    assert list(sections) == ["ToyCar 01", "ToyCar 02"]
    assert sections.loc["contrastive", "ToyCar 02"] == "95.5 / 85.0"
    assert "3 runs of 2 systems, put together on 2026-01-02. Data: a toy." in kept.origin()
    assert "3 runs, 2 seeds a variant, parameters: epochs=3; 0 runs failed" in kept.origin()
    assert len(save_figure(plot_systems(kept.comparison), tmp_path / "systems")) == 2
    assert kept.summary is not None
    files = save_figure(plot_differences(kept.summary), tmp_path / "ablation")
    assert all(file.stat().st_size > 1000 for file in files)
    before = files[1].read_bytes()
    assert save_figure(plot_differences(kept.summary), tmp_path / "ablation")[1].exists()
    assert b"<dc:date>" not in before


def test_kept_results_are_told(folder: Path) -> None:
    kept = load_kept(folder)
    rows = kept.paired_rows()
    assert rows is not None
    assert rows.to_dict("records") == [
        {
            "system": "contrastive",
            "against": "statistics",
            "AUC (points)": "+5.5 [+1.0, +10.0]",
            "AUC differs": "shown",
            "pAUC (points)": "+5.0 [−1.0, +10.0]",
            "pAUC differs": "not shown",
        }
    ]
    # Seeds 0 and 1 of one against the single run of the other: 5 and 6 points.
    words = kept.seeds_words("contrastive", "statistics")
    assert (
        "**contrastive** against statistics, paired over seeds: AUC +5.5 points [−0.9, +11.9]"
        in words
    )
    assert "not among the kept results" in kept.seeds_words("contrastive", "none")
    text = kept.ablation_words()
    assert "AUC, shown to be better than full: half (+1.0)." in text
    assert "AUC, shown to be worse than full: no mixup (−2.0)." in text
    assert "pAUC, not shown to differ from full: 2 of 2 variants." in text
    assert "Of 4 comparisons" in text
    assert kept.variants("data")["variant"].unique().tolist() == ["half"]
    part = kept.ablation_words("data", "losses")
    assert "AUC, shown to be better than full: half (+1.0)." in part
    assert "AUC, shown to be worse than full: none." in part
    assert "No such ablation is kept" in kept.ablation_words("losses")
    assert "nothing is shown" in ablation_verdict(pd.DataFrame(columns=kept_columns(kept.summary)))
    assert kept.paired is not None
    assert paired_table(kept.paired.iloc[:0]).empty
    back = kept.paired.rename(columns={"system": "reference", "reference": "system"})
    assert len(paired_table(pd.concat([kept.paired, back]))) == 1


def test_what_was_tried_is_shown_if_it_is_kept(folder: Path) -> None:
    assert load_kept(folder).tried() is None
    ways = ("encoder_training_bn", "encoder", "feature_map_knn", "encoder_and_spectrum")
    figures = {
        f"{m}_{way}": [0.9 + 0.01 * i] for i, way in enumerate(ways) for m in ("auc", "pauc")
    }
    pd.DataFrame({"recipe": ["48 epochs"], "seed": [1], "epochs": [48]} | figures).to_csv(
        folder / "tried.csv", index=False
    )
    tried = load_kept(folder).tried()
    assert tried is not None
    assert tried.to_dict("records") == [
        {
            "recipe": "48 epochs",
            "seed": 1,
            "encoder training batch norm": "90.0 / 90.0",
            "encoder": "91.0 / 91.0",
            "feature map knn": "92.0 / 92.0",
            "encoder and spectrum": "93.0 / 93.0",
        }
    ]


def test_back_ends_that_were_tried_are_shown_if_they_are_kept(folder: Path) -> None:
    assert load_kept(folder).tried_scoring() is None
    (folder / "tried_scoring.csv").write_text(
        "spectrum,feature_map,encoder,auc,pauc,auc_fused,pauc_fused\nown,,,0.9,0.8,0.91,0.82\n"
    )
    tried = load_kept(folder).tried_scoring()
    assert tried is not None
    assert tried.to_dict("records") == [
        {
            "spectrum": "own",
            "feature map": "–",
            "embedding": "–",
            "mean over seeds": "90.0 / 80.0",
            "seeds fused": "91.0 / 82.0",
        }
    ]


def kept_columns(table: pd.DataFrame | None) -> list[str]:
    assert table is not None
    return list(table)


def test_what_is_not_kept_is_told(folder: Path, tmp_path: Path) -> None:
    assert find_kept(tmp_path / "nothing") is None
    (folder / "paired.csv").unlink()
    for file in (folder / "ablation").iterdir():
        file.unlink()
    (folder / "ablation").rmdir()
    kept = load_kept(folder)
    assert kept.paired_rows() is None
    assert "No such ablation is kept" in kept.ablation_words()
    (folder / "systems.csv").unlink()
    with pytest.raises(RunError, match=r"lacks systems\.csv; asd compare"):
        find_kept(folder)


def test_the_folder_is_that_of_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "notebooks")
    assert results_folder("toycar") == ROOT / "results" / "toycar"
