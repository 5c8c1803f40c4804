"""``asd conditions`` as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from asd_process import Outcome

from asdlib.features import FeatureStore
from asdlib.study import ablation, load_run

Asd = Callable[..., Outcome]

TINY = [
    *("seeds=1", "epochs=1", "n_sections=2", "n_train=12", "n_test=2", "target_share=0.25"),
    *("seconds=1.5", "params.crop_frames=16", "params.batch_size=8"),
    'machines={"dcase2020": ["fan"], "dcase2022": ["valve"]}',
]


def test_conditions(asd: Asd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One training for each condition and step; it serves all bands of the faults."""
    monkeypatch.setattr(ablation, "STEPS", {"mixup": {"mixup": False}})
    out, work = tmp_path / "results", tmp_path / "work"
    command: list[Any] = ["conditions", "--out", out, "--work", work, "--jobs", 1]
    for change in TINY:
        command += ["--set", change]
    done = asd(*command).success
    # Four bands under the first condition, one under each of the three others.
    assert "[14/14]" in done.err
    assert "as it is, faults low, without mixup, seed 0" in done.err
    assert sorted(path.name for path in out.iterdir()) == [
        *("conditions.csv", "conditions.png", "conditions.svg", "effects.csv"),
        "provenance.json",
    ]
    table = pd.read_csv(out / "conditions.csv")
    assert len(table) == 14 * 2
    assert list(dict.fromkeys(table["condition"])) == list(ablation.CONDITIONS)
    assert set(table["without"]) == {"full", "mixup"}
    shifted = table["condition"] == "two domains"
    assert table.loc[shifted, "auc_target"].notna().all()
    assert table.loc[~shifted, "auc_target"].isna().all()
    assert sorted(table.loc[shifted, "machine"].unique()) == ["Average", "valve"]
    effects = pd.read_csv(out / "effects.csv", keep_default_na=False)
    assert effects["group"].nunique() == 7
    assert set(effects[effects["variant"] == "full"]["verdict"]) == {""}
    assert effects[effects["variant"] == "without mixup"]["verdict"].str.contains("one seed").all()
    assert json.loads((out / "provenance.json").read_text())["spec"]["seeds"] == 1

    records = [load_run(path).record for path in sorted((work / "runs").glob("contrastive-*"))]
    trained = [record.config.params for record in records if record.network_of is None]
    assert (len(records), len(trained)) == (14, 8)
    for record in records:
        params = record.config.params
        assert (params["embedding"], params["backend"]) == ("encoder", "mahalanobis")
    assert sorted(params["epochs"] for params in trained) == [1] * 6 + [4] * 2
    assert sum(params["classes"] == "machine" for params in trained) == 2
    whole = FeatureStore.open(work / "stores" / "dcase2020-train").rows(split="train")
    share = next((work / "stores").glob("share-0.25-seed-0-*"))
    assert len(FeatureStore.open(share)) * 4 == len(whole)


def test_conditions_refuses_what_it_does_not_know(asd: Asd, tmp_path: Path) -> None:
    command: list[Any] = ["conditions", "--out", tmp_path / "out", "--set"]
    for change, message in (
        ("colour=1", "unknown parameter 'colour' of asd conditions (known: "),
        ("n_train=4", "asd conditions: n_train=4 is refused: input should be greater than or eq"),
        ("params.colour=1", "unknown parameter 'colour' of contrastive"),
        ("seeds=1e9", "seeds=1000000000.0 is refused"),
        ("n_train=10000000000", "n_train=10000000000 is refused"),
        ("seconds=1e12", "seconds=1000000000000.0 is refused"),
        ("epochs=" + "9" * 30, "is refused"),
    ):
        assert message in asd(*command, change).error
    assert not (tmp_path / "out").exists()
