"""Looking at stores, cutting and joining them."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_stores import SMALL, flip, make_manifest, make_store

from asdlib.errors import StoreError
from asdlib.features import (
    FeatureStore,
    merge_stores,
    store as store_module,
    subset_store,
    write_store,
)


def test_damage_is_not_copied(store: FeatureStore, tmp_path: Path) -> None:
    flip(store.path / "logmel.npy", 8 * 900)
    damaged = FeatureStore.open(store.path)
    with pytest.raises(StoreError, match=r"logmel\.npy' is not what SHA256SUMS says"):
        subset_store(damaged, tmp_path / "x", split="train")
    with pytest.raises(StoreError, match=r"logmel\.npy' is not what SHA256SUMS says"):
        merge_stores([damaged], tmp_path / "x")
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_subset_holds_the_selected_rows(store: FeatureStore, tmp_path: Path) -> None:
    part = subset_store(store, tmp_path / "part", split="test", section=["01"])
    rows = store.rows(split="test", section="01")
    assert part.manifest.equals(rows.manifest)
    assert part.front_end == store.front_end
    assert "logmel.npy" in (part.path / "SHA256SUMS").read_text()
    for row, index in enumerate(rows.index):
        n = store.frames[index]
        np.testing.assert_array_equal(part.features[row, :, :n], store.features[index, :, :n])
        assert not part.features[row, :, n:].any()


def test_subset_is_as_wide_as_its_longest_clip(store: FeatureStore, tmp_path: Path) -> None:
    part = subset_store(store, tmp_path / "part", store.frames == 18)
    assert part.n_frames == 18
    np.testing.assert_array_equal(part.features, store.features[store.frames == 18, :, :18])


def test_subset_refuses(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no clip of .* split 'train', label 'anomaly'"):
        subset_store(store, tmp_path / "x", split="train", label="anomaly")
    with pytest.raises(StoreError, match="exists; choose another output folder or remove it"):
        subset_store(store, store.path, split="train")
    with pytest.raises(StoreError, match="section '07' is not in"):
        subset_store(store, tmp_path / "x", section="07")
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_merge_undoes_a_split(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_BLOCK_BYTES", 1000)
    parts = [subset_store(store, tmp_path / split, split=split) for split in ("train", "test")]
    whole = merge_stores(parts, tmp_path / "whole")
    assert whole.fingerprint == store.fingerprint


def test_merge_of_different_lengths_and_columns(store: FeatureStore, tmp_path: Path) -> None:
    manifest = make_manifest(4, machine="pump").assign(attributes="spd_3V")
    longer = write_store(
        tmp_path / "longer", manifest, np.ones((4, 8, 25)), {**SMALL.describe(), "note": "x"}
    )
    both = merge_stores([store, longer], tmp_path / "both")
    assert both.features.shape == (16, 8, 25)
    assert both.frames.tolist() == [*store.frames, 25, 25, 25, 25]
    assert both.manifest["attributes"].tolist() == [""] * 12 + ["spd_3V"] * 4
    np.testing.assert_array_equal(both.features[:12, :, :20], store.features)
    assert not both.features[:12, :, 20:].any()
    assert both.front_end == store.front_end
    turned = merge_stores([longer, store], tmp_path / "turned")
    assert turned.front_end == store.front_end
    np.testing.assert_array_equal(turned.features[4:], both.features[:12])


def test_merge_refuses(store: FeatureStore, tmp_path: Path) -> None:
    other = write_store(
        tmp_path / "other",
        make_manifest(4, machine="pump"),
        np.zeros((4, 8, 20)),
        SMALL.model_copy(update={"hop_length": 64}),
    )
    with pytest.raises(StoreError, match="hop_length 128 and 64"):
        merge_stores([store, other], tmp_path / "x")
    again = make_store(tmp_path / "again", seed=3)
    with pytest.raises(StoreError, match=r"clip 'normal_id_00_00000000\.wav' of fan train is in"):
        merge_stores([store, again], tmp_path / "x")
    with pytest.raises(StoreError, match="at least one"):
        merge_stores([], tmp_path / "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "other", "store"]


@pytest.mark.parametrize("where", ["before", "at the end"])
def test_disk_full_leaves_nothing(
    store: FeatureStore, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "before":
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    else:

        def blocks(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(store_module, "_blocks", blocks)
    with pytest.raises(StoreError, match="is full"):
        subset_store(store, tmp_path / "x", split="train")
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_interrupt_leaves_nothing(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blocks(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store_module, "_blocks", blocks)
    with pytest.raises(KeyboardInterrupt):
        merge_stores([store], tmp_path / "x")
    assert [p.name for p in tmp_path.iterdir()] == ["store"]
