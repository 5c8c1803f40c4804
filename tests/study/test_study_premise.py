"""The premise study: one training set, faults in three bands, and what may be said about it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asdlib.features import FeatureStore
from asdlib.plots.differences import plot_premise
from asdlib.study import load_run, premise
from asdlib.study.config import make_system
from asdlib.study.premise import AUGMENTATIONS, BANDS, PREMISE, PremiseSpec, study_premise
from asdlib.study.profiles import merge
from asdlib.study.verdicts import premise_verdict

TINY = PremiseSpec(
    machines=("fan",),
    n_sections=2,
    n_train=4,
    n_test=3,
    seconds=1.5,
    seeds=(0, 1),
    params={"epochs": 1, "crop_frames": 16, "batch_size": 8},
)


def test_the_bands_share_all_but_the_band_of_the_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {name: AUGMENTATIONS[name] for name in ("none", "full")}
    monkeypatch.setattr(premise, "AUGMENTATIONS", chosen)
    table = study_premise(TINY, tmp_path, processes=1)
    counts = table.drop_duplicates(["band", "variant", "seed"]).groupby(["band", "variant"]).size()
    assert counts.to_dict() == {
        (band, variant): 1 if variant == "statistics" else 2
        for band in BANDS
        for variant in ("none", "full", "statistics")
    }
    # One training for each augmentation and seed serves all bands.
    records = [load_run(path).record for path in table["run"].unique()]
    contrastive = [r for r in records if r["config"]["system"] == "contrastive"]
    assert len(contrastive) == 12
    assert sum("network_of" not in record for record in contrastive) == 4

    stores = [FeatureStore.open(tmp_path / "stores" / band) for band in BANDS]
    test = [store.rows(split="test").manifest for store in stores]
    assert test[0]["clip"].equals(test[1]["clip"])
    for label, same in (("normal", True), ("anomaly", False)):
        one, other = (
            next(s.rows(split="test", label=label).batches(99))[1] for s in (stores[0], stores[2])
        )
        assert np.array_equal(one, other) == same

    figure = plot_premise(table)
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == list(BANDS)
    assert "faults low" in premise_verdict(table)


@pytest.mark.parametrize("profile", sorted(PREMISE))
def test_every_variant_is_valid_and_differs(profile: str) -> None:
    spec = PREMISE[profile]
    params = [
        make_system("contrastive", merge(spec.params, changes)).params
        for changes in AUGMENTATIONS.values()
    ]
    assert len({p.model_dump_json() for p in params}) == len(AUGMENTATIONS)
    assert len(spec.seeds) > 1


def test_a_verdict_says_where_it_helps_and_where_it_hurts() -> None:
    gains = {"low": 0.05, "mid": 0.0, "high": -0.05}
    rows = [
        (band, variant, seed, "Average", "Average", 0.7 + gain * (variant == "full") + noise)
        for band, gain in gains.items()
        for variant in ("none", "full", "statistics")
        for seed, noise in enumerate((0.0, 0.01, 0.02))
        if variant != "statistics" or not seed
    ]
    columns = ["band", "variant", "seed", "machine", "section", "auc"]
    table = pd.DataFrame(rows, columns=columns)
    rng = np.random.default_rng(0)
    full = table["variant"] == "full"
    table.loc[full, "auc"] += rng.normal(0, 1e-3, full.sum())
    text = premise_verdict(table)
    lines = text.splitlines()
    assert lines[0].startswith("- **full**, faults low: AUC +5.0 points [")
    assert lines[0].endswith("shown: it helps.")
    assert lines[1].endswith("not shown to differ.")
    assert lines[2].endswith("shown: it hurts.")
    assert "Of these 3: 1 × 'helps', 1 × 'not shown to differ', 1 × 'hurts'." in text
    assert "larger for low faults than for high ones?" in text
    assert "- **full**: +10.0 points [" in text
    # The reference is not random and is no augmentation.
    assert "statistics" not in text
