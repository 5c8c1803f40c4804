"""First-shot training: classes by attributes or clusters, supplemental clips, even domains."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from contrastive_rows import FRONT_END, quick, quick_system
from sklearn.metrics import adjusted_rand_score

from asdlib.errors import RunError
from asdlib.features import FeatureStore, Rows, write_store
from asdlib.method import Contrastive
from asdlib.method.classes import class_names, pseudo_classes, supplemental
from asdlib.method.contrastive import ContrastiveTraining, CropBatches

N, TARGET, EXTRA = 40, 4, 6
LOUD = 30.0
"""Level of supplemental clips above all others, in dB."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Fans name their attribute and have clean clips; pumps hide two states and have noise."""
    rng = np.random.default_rng(3)
    states = {name: rng.normal(-40, 8, FRONT_END.n_mels) for name in ("spd_1", "spd_2", "extra")}
    rows, features = [], []
    for machine in ("fan", "pump"):
        for i in range(N + EXTRA):
            domain = "target" if i < TARGET else "source"
            state = "spd_2" if i < TARGET or i % 2 else "spd_1"
            said = state if machine == "fan" else "noAttribute"
            row = (f"section_00_{domain}_train_normal_{i:04d}_{said}.wav", machine, "train")
            row += ("normal", domain, said)
            if i >= N:
                kind, state = ("machine" if machine == "fan" else "noise"), "extra"
                row = (f"section_00_{kind}_{i:04d}.wav", machine, "supplemental", "", "")
                row += (f"kind_{kind}",)
            rows.append(row)
            noise = rng.normal(0, 1, (FRONT_END.n_mels, 12))
            features.append(states[state][:, None] + noise + LOUD * (i >= N))
    names = ["clip", "machine", "split", "label", "domain", "attributes"]
    table = pd.DataFrame(rows, columns=names).assign(section="00")
    return write_store(tmp_path_factory.mktemp("classes") / "store", table, features, FRONT_END)


@pytest.fixture
def rows(store: FeatureStore) -> Rows:
    return store.rows(split="train")


def test_attributes_are_classes_and_hidden_ones_are_found_again(rows: Rows) -> None:
    names = class_names(rows, "attribute")
    fan = (rows.manifest["machine"] == "fan").to_numpy()
    expected = "fan/00/" + rows.manifest["attributes"][fan]
    assert names[fan].tolist() == expected.tolist()
    states = [i < TARGET or i % 2 for i in range(N)]
    assert adjusted_rand_score(states, names[~fan]) == 1
    assert set(names[~fan]) == {"pump/00/cluster 0", "pump/00/cluster 1"}
    assert set(class_names(rows, "section")) == {"fan/00", "pump/00"}


@pytest.mark.parametrize("k", [1, 3])
def test_the_number_of_clusters_is_that_of_clouds(k: int) -> None:
    rng = np.random.default_rng(k)
    centres = rng.normal(0, 30, (k, 20))
    found = pseudo_classes(centres[np.arange(120) % k] + rng.normal(0, 1, (120, 20)))
    assert adjusted_rand_score(np.arange(120) % k, found) == 1
    assert len(set(pseudo_classes(np.ones((5, 3))))) == 1


def test_supplemental_clips_are_told_apart(rows: Rows) -> None:
    noise, clean = supplemental(rows, "noise"), supplemental(rows, "clean")
    assert set(noise.manifest["machine"]) == {"pump"}
    assert set(clean.manifest["machine"]) == {"fan"}
    assert len(noise) == len(clean) == EXTRA
    fans = rows.select((rows.manifest["machine"] == "fan").to_numpy())
    assert len(supplemental(fans, "noise")) == 0


def test_clean_clips_join_the_training_and_noise_joins_the_mixing(rows: Rows) -> None:
    plain = CropBatches(rows, quick(), 0)
    assert len(plain.rows) == 2 * N
    assert not len(plain.noise)
    params = quick(supplemental_clean=True, supplemental_noise=True, classes="attribute")
    batches = CropBatches(rows, params, 0)
    assert len(batches.rows) == 2 * N + EXTRA
    assert batches.n_classes == 5  # two of each machine, and the clean one
    assert batches.noise_crops(7, 0).min() > plain.rows.crops([0], [0], 8).max() - 40
    assert torch.equal(batches.noise_crops(7, 0), batches.noise_crops(7, 0))
    assert not torch.equal(batches.noise_crops(7, 0), batches.noise_crops(7, 1))

    system = quick_system(epochs=0, supplemental_noise=True).fit(rows)
    training = ContrastiveTraining(
        system.network_, system.augmentation_.train(), rows, system.params, 0
    )
    training.training_step(next(iter(training.batches)), 0)
    bank = system.augmentation_.bank
    held = bank.entries[: len(bank)].mean(dim=(1, 2))
    loud = held > held.min() + LOUD / 2 / float(system.augmentation_.pre_norm.std)
    assert loud.float().mean() == 0.5


def test_balanced_domains_draw_both_alike_whatever_the_classes(rows: Rows) -> None:
    batches = CropBatches(rows, quick(balanced_domains=True, classes="attribute"), 0)
    drawn = batches.order(np.random.default_rng(0))
    manifest = rows.manifest.iloc[drawn]
    counts = manifest.groupby(["machine", "domain"]).size()
    assert counts.tolist() == [N // 2] * 4
    target = manifest.loc[manifest["domain"] == "target", "clip"].value_counts()
    assert set(target) == {N // 2 // TARGET}


def test_the_number_of_classes_is_kept_and_absent_clips_are_told(
    rows: Rows, tmp_path: Path
) -> None:
    system = quick_system(epochs=1, classes="attribute", classifier="arcface").fit(rows)
    assert system.network_.classifier is not None
    assert len(system.network_.classifier.centres) == 4
    system.save(tmp_path / "model")
    again = Contrastive.load(tmp_path / "model")
    np.testing.assert_array_equal(again.score(rows), system.score(rows))
    fans = rows.select((rows.manifest["machine"] == "fan").to_numpy())
    system = quick_system(epochs=0, supplemental_noise=True).fit(fans)
    assert any("supplemental_noise changes nothing" in text for text in system.notices_)
    with pytest.raises(RunError, match="frames, expected at least 8"):
        quick_system(crop_frames=8, supplemental_clean=True).fit(short_clean(rows, tmp_path))


def short_clean(rows: Rows, folder: Path) -> Rows:
    """The same rows in a store whose clean clips are too short."""
    store = rows.store
    frames = np.where(store.manifest["split"] == "supplemental", 5, 12)
    table = store.manifest.assign(frames=frames)
    made = write_store(folder / "short", table, store.features, FRONT_END)
    return made.rows(split="train")
