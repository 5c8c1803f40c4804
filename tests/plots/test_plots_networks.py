"""What chapters show of a trained encoder."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

mpl.use("agg")

from asdlib import plots
from asdlib.baselines import TimeStatistics
from asdlib.data.synthetic import SPECS, write_corpus
from asdlib.features import FeatureStore
from asdlib.features.build import build_store
from asdlib.method.backends import BACKENDS, build_backend
from asdlib.method.contrastive import Contrastive
from asdlib.plots.networks import encoder_embeddings
from asdlib.system import section_keys


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Features of a few synthetic valves."""
    folder = tmp_path_factory.mktemp("networks")
    spec = SPECS["smoke"].model_copy(update={"machines": ("valve",)})
    write_corpus(spec, folder / "wav", jobs=1)
    return build_store(folder / "wav", folder / "store", preset="dcase2020", jobs=1)


@pytest.fixture(scope="module")
def system(store: FeatureStore) -> Contrastive:
    """A network with its first weights: pictures need no better one."""
    return Contrastive(epochs=0, crop_frames=32).fit(store.rows(split="train"))


def test_stages_hold_all_parameters_of_the_encoder(system: Contrastive) -> None:
    table = plots.encoder_table(system)
    counted = sum(p.numel() for p in system.network_.encoder.parameters())
    assert table["parameters"].sum() == counted
    assert table["shape"].iloc[0] == "128 × 32"


def test_backends_are_compared_on_labelled_sections_only(
    system: Contrastive, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = plots.compare_backends(system, store).set_index("back-end")
    assert len(table) == len(set(BACKENDS) - {"level_sum"}) + 1
    assert ((table >= 0) & (table <= 1)).all(axis=None)
    blind = store.manifest.copy()
    blind.loc[(blind["split"] == "test") & (blind["section"] == "02"), "label"] = ""
    monkeypatch.setattr(store, "manifest", blind)
    fewer = plots.compare_backends(system, store).set_index("back-end")
    assert not np.allclose(fewer["auc"], table["auc"])


def test_shares_and_what_they_give(system: Contrastive, store: FeatureStore) -> None:
    curves = plots.share_curves(system, store)
    curve = [curves["level"], curves["machine"]]
    assert set(curves["level"]) == {"spectrum", "encoder"}
    assert (curves.groupby(curve)["surprise"].min() == 0).all()
    assert (curves.groupby(curve)["chosen"].sum() == 1).all()
    backend = build_backend("pooled_mahalanobis")
    train = store.rows(split="train")
    backend.fit(
        encoder_embeddings(system, train), section_keys(train.manifest), train.manifest["domain"]
    )
    chosen = curves[curves["chosen"] & (curves["level"] == "encoder")].set_index("machine")["share"]
    for section, model in backend.models_.items():
        assert model["share"] == chosen[section.split("/")[0]]
    plots.plot_shares(curves).canvas.draw()


def test_the_reference_with_both_covariances(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = plots.compare_covariances(store)
    assert list(table) == [
        "machine",
        "sections",
        *(f"{m}, {c}" for m in ("AUC", "pAUC") for c in ("own", "pooled")),
    ]
    train, test = store.rows(split="train"), store.rows(split="test")
    scores = TimeStatistics().fit(train).score(test)
    keys = section_keys(test.manifest)
    anomalous = (test.manifest["label"] == "anomaly").to_numpy()
    for row in table.itertuples(index=False):
        own = [k for k in sorted(set(keys)) if k.startswith(f"{row[0]}/")]
        expected = [100 * roc_auc_score(anomalous[keys == k], scores[keys == k]) for k in own]
        assert (row[1], row[2]) == (len(own), pytest.approx(np.mean(expected)))
    blind = store.manifest.copy()
    blind["label"] = blind["label"].where(blind["split"] == "train", "")
    monkeypatch.setattr(store, "manifest", blind)
    assert plots.compare_covariances(store)["AUC, own"].isna().all()


def test_embeddings_do_not_depend_on_what_the_system_scores(
    system: Contrastive, store: FeatureStore
) -> None:
    rows = store.rows(split="test")
    embeddings = encoder_embeddings(system, rows)
    assert embeddings.shape == (len(rows), system.network_.encoder.embedding_size)
    assert system.params.embedding == Contrastive().params.embedding


def test_bands_and_figures(system: Contrastive, store: FeatureStore, tmp_path: Path) -> None:
    table = plots.band_importance(system, store, bands=8)
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 8
    assert table["kHz"].is_monotonic_increasing
    assert (table["distance"] > 0).all()
    rows = store.rows(split="train")
    for number, figure in enumerate(
        (
            plots.plot_band_importance({"trained": table, "untrained": table}),
            plots.plot_embeddings(system, store, "valve", "00"),
            plots.plot_similarities({"untrained": plots.untrained(system, rows)}, rows),
        )
    ):
        figure.savefig(tmp_path / f"{number}.png")
