"""From recordings in the layout of each year to its official score, as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from asd_process import Outcome
from scipy.stats import hmean
from sklearn.metrics import roc_auc_score

from asdlib.study import Study
from asdlib.study.study import PROFILES

Asd = Callable[..., Outcome]

EVALUATOR = {2021: ("source", "target"), 2023: ("",), 2026: ("",)}
"""Years whose test clips are blind here, and what their files of ground truth have in the name."""


def write_year(root: Path, year: int) -> Path:
    """Write recordings with the names of a year, and ground truth where they are blind."""
    rng = np.random.default_rng(year)
    sections = ("03", "04") if year < 2023 else ("00",)
    for machine in ("ToyCar", "bandsaw"):
        for section in sections:
            truth: dict[str, list[tuple[str, int, int]]] = {}
            clips = [
                ("train", d, 0, i) for d, n in (("source", 6), ("target", 3)) for i in range(n)
            ]
            clips += [
                ("test", d, a, i) for d in ("source", "target") for a in (0, 1) for i in range(4)
            ]
            for number, (split, domain, anomalous, i) in enumerate(clips):
                label = ("normal", "anomaly")[anomalous]
                name = f"section_{section}_{domain}_{split}_{label}_{i:04d}"
                folder = split
                if split == "test" and year == 2021:
                    name = f"section_{section}_{domain}_test_{number:04d}"
                    folder = f"{domain}_test"
                elif split == "test" and year in EVALUATOR:
                    name = f"section_{section}_{number:04d}"
                elif year == 2024:
                    name += "_noAttribute"
                elif year >= 2025:
                    name += "_spd_1"
                part = f"_{domain}" if year == 2021 else ""
                flags = (f"{name}.wav", anomalous, int(domain == "target"))
                truth.setdefault(part, []).extend([flags] if split == "test" else [])
                level = 0.05 + 0.04 * anomalous * rng.random() + 0.02 * (domain == "target")
                tone = np.sin(np.arange(16000) * (0.05 + 0.01 * int(section)))
                samples = level * tone + rng.normal(scale=0.02, size=16000)
                near_and_far = np.stack([samples, rng.normal(scale=0.02, size=16000)], axis=1)
                path = root / "eval_data" / machine / folder / f"{name}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, near_and_far if year == 2026 else samples, 16000)
            for part, rows in truth.items() if year in EVALUATOR else ():
                file = f"ground_truth_{machine}_section_{section}{part}_test.csv"
                for kind, column in (("data", 1), ("domain", 2))[: 1 if year == 2021 else 2]:
                    lines = "".join(f"{row[0]},{row[column]}\n" for row in rows)
                    path = root / "ground_truth" / f"ground_truth_{kind}" / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(lines)
    if year >= 2025:
        noise = root / "eval_data" / "ToyCar" / "supplemental" / "section_00_noise_0000.wav"
        noise.parent.mkdir()
        soundfile.write(noise, np.zeros((16000, 2 if year == 2026 else 1)), 16000)
    return root


def by_scikit_learn(scores: pd.DataFrame, year: int) -> list[float]:
    """Compute the official terms of labelled scores as the evaluators of the years since 2021."""
    terms = []
    for _, part in scores.groupby(["machine", "section"]):
        own = {d: part[part["domain"] == d] for d in ("source", "target")}
        anomalies = part[part["label"] == "anomaly"]
        for clips in own.values():
            normal = clips[clips["label"] == "normal"]
            used = clips if year == 2021 else pd.concat([normal, anomalies])
            terms.append(roc_auc_score(used["label"] == "anomaly", used["anomaly_score"]))
        for clips in own.values() if year == 2021 else [part]:
            y = clips["label"] == "anomaly"
            terms.append(roc_auc_score(y, clips["anomaly_score"], max_fpr=0.1))
    return terms


@pytest.mark.parametrize(
    ("year", "made"),
    [(year, "synthetic") for year in (2020, *range(2022, 2027))]
    + [(y, "blind") for y in EVALUATOR],
)
def test_from_recordings_of_every_year_to_its_official_score(
    asd: Asd, tmp_path: Path, year: int, made: str
) -> None:
    wav, store, run = tmp_path / "wav", tmp_path / "store", tmp_path / "run"
    truth: list[object] = []
    if made == "synthetic":
        asd("synth", wav, "--profile", "smoke", "--layout", f"dcase{year}").success  # noqa: B018
    else:
        write_year(wav, year)
        truth = ["--ground-truth", wav / "ground_truth"]
    told = ["--year", year] if year > 2022 else []
    near = ["--channel", 0] if year == 2026 else []
    asd("features", wav, store, *told, *near, *truth).success  # noqa: B018
    done = asd("run", "statistics", "--train", store, "--test", store, "--out", run).success
    assert done.out.count("Average") > 1
    assert ("Harmonic mean" in done.out) == (year > 2020)
    evaluated = json.loads(asd("evaluate", run, *truth, "--json").success.out)
    assert evaluated["year"] == year
    official = next(line for line in done.out.splitlines() if line.startswith("official score of"))
    printed = asd("evaluate", run, *truth).success.out
    assert official in printed
    if year == 2020:
        auc, pauc = (f"{100 * evaluated['average'][name]:.2f}" for name in ("auc", "pauc"))
        assert official.startswith(f"official score of 2020, in %: AUC {auc} [")
        assert f", pAUC {pauc} [" in official
        return
    from asdlib.evaluation import evaluate_folder

    scores = evaluate_folder(run, year, truth[1] if truth else None).scores  # type: ignore[arg-type]
    terms = by_scikit_learn(scores, year)
    assert evaluated["omega"] == pytest.approx(hmean(np.maximum(terms, 2.3e-16)), abs=1e-12)
    assert official.startswith(f"official score of {year}, in %: Ω {100 * evaluated['omega']:.2f}")
    if truth:
        repository = "y-kawagu/dcase2021" if year == 2021 else f"nttcslab/dcase{year}"
        where = "asd download dcase2021" if year == 2021 else f"{repository}_task2_evaluator"
        assert where in asd("evaluate", run).error


def test_a_profile_finds_year_ground_truth_and_near_microphone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for year in (2021, 2026):
        write_year(tmp_path / "data" / f"dcase{year}", year)
        profile = PROFILES[f"dcase{year}"]
        assert profile.years == (year,)
        study = Study(profile.name, tmp_path / "work", data_root=tmp_path / "data", processes=1)
        test = study.store().rows(split="test").manifest
        assert set(test["year"]) == {str(year)}
        assert set(test["label"]) == {"normal", "anomaly"}
        assert set(test["domain"]) == {"source", "target"}
        assert "omega" in set(study.run("statistics").intervals["metric"])


def test_the_year_that_is_asked_for_counts(asd: Asd, tmp_path: Path) -> None:
    wav, store = write_year(tmp_path / "wav", 2025), tmp_path / "store"
    asd("features", wav, store).success  # noqa: B018
    both = [tmp_path / "told", tmp_path / "own"]
    command = ["run", "statistics", "--train", store, "--test", store, "--out"]
    assert "official score of 2023" in asd(*command, both[0], "--year", 2023).success.out
    assert "official score of 2025" in asd(*command, both[1]).success.out
    keys = {json.loads((run / "run.json").read_text())["key"] for run in both}
    assert len(keys) == 2
    assert "holds another run" in asd(*command, both[1], "--year", 2023).error
    wrong = asd(*command, tmp_path / "no", "--year", 2020).error
    assert "of 2020" in wrong
    compared = ["compare", *both, "--kind", "synthetic", "--json", "--year", 2025, "--published"]
    assert "two runs of seed 0" in asd(*compared).error
    compared[1:3] = [f"a={both[0]}", f"b={both[1]}"]
    rows = json.loads(asd(*compared).success.out)["comparison"]
    assert [row["system"] for row in rows[:4]] == ["a", "a", "b", "b"]
    assert len({row["omega"] for row in rows[:4]}) == 1
    assert rows[0]["omega_low"] < rows[0]["omega"] < rows[0]["omega_high"]
    winner = next(row for row in rows if "2025 challenge winner" in row["system"])
    assert winner["omega"] in (0.609, 0.616)
