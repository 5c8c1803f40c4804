"""The store: what it refuses, what it selects, and that reading gives what was written."""

import errno
import json
import pickle
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings, strategies as st
from small_stores import SMALL, flip, make_manifest, make_store

from asdlib.errors import StoreError
from asdlib.features import FeatureStore, FrontEnd, write_store

ZEROS = np.zeros((4, 8, 5))


def test_written_store_reads_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(-40, 10, size=(6, 8, 5)).astype(np.float16)
    manifest = make_manifest(6).assign(path="a/b.wav", index=[f"{i:08d}" for i in range(6)])
    store = write_store(tmp_path / "new", manifest, features, SMALL)
    assert store.features.dtype == np.float16
    np.testing.assert_array_equal(store.features, features)
    assert store.manifest.drop(columns="frames").equals(manifest.astype(str))
    assert store.manifest["frames"].tolist() == [5] * 6
    assert store.parameters == SMALL
    assert (len(store), store.n_mels, store.n_frames) == (6, 8, 5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new"]


def test_text_that_looks_like_something_else_stays_text(tmp_path: Path) -> None:
    manifest = make_manifest(4).assign(
        section=["00", "01", "NA", "1e5"], attributes=["nan", "", "", "NA"]
    )
    store = write_store(tmp_path / "s", manifest, np.zeros((4, 8, 3)), SMALL)
    assert store.manifest["section"].tolist() == ["00", "01", "NA", "1e5"]
    assert store.manifest["attributes"].tolist() == ["nan", "", "", "NA"]
    assert len(store.rows(attributes="")) == 2


def test_features_are_read_only_and_mapped(store: FeatureStore) -> None:
    assert isinstance(store.features, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.features[0] = 0


@pytest.mark.parametrize("name", ["manifest.csv", "logmel.npy", "feature.json"])
def test_missing_file_is_named(store: FeatureStore, name: str) -> None:
    (store.path / name).unlink()
    with pytest.raises(StoreError, match=f"not a feature store: it lacks {name}"):
        FeatureStore.open(store.path)


def test_missing_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StoreError, match="no such folder"):
        FeatureStore.open(file)
    with pytest.raises(StoreError, match="no such folder"):
        FeatureStore.open(tmp_path / "nothing")


def damage_array(store: FeatureStore, clip: int, value: float) -> None:
    array = np.array(store.features)
    array[clip, 3, 4] = value
    np.save(store.path / "logmel.npy", array)


def test_values_that_are_not_finite_are_found(store: FeatureStore) -> None:
    for clip, value in ((0, np.nan), (7, np.inf), (11, -np.inf)):
        damage_array(store, clip, value)
        name = store.manifest["clip"].iloc[clip]
        with pytest.raises(StoreError, match=f"clip '{name}' holds NaN or infinite values"):
            FeatureStore.open(store.path)
        damage_array(store, clip, 0.0)


def test_extreme_finite_values_are_fine(store: FeatureStore) -> None:
    for value in [65504.0, -65504.0, -0.0, 6e-8]:
        damage_array(store, 5, value)
        assert len(FeatureStore.open(store.path)) == 12


def test_damaged_parts_are_named(store: FeatureStore) -> None:
    manifest = store.path / "manifest.csv"
    text = manifest.read_text()
    manifest.write_text("".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(StoreError, match="11 manifest rows for 12 spectrograms"):
        FeatureStore.open(store.path)
    manifest.write_text(text.replace("section", "part"))
    with pytest.raises(StoreError, match=r"lacks section \(has: clip, machine, part"):
        FeatureStore.open(store.path)
    for frames in ("21", "0", "4.5", "many", ""):
        lines = text.splitlines()
        lines[3] = lines[3].rsplit(",", 1)[0] + "," + frames
        manifest.write_text("\n".join(lines) + "\n")
        with pytest.raises(StoreError, match=f"has frames '{frames}'; expected 1 to 20"):
            FeatureStore.open(store.path)
    manifest.write_text(text)
    told = json.loads((store.path / "feature.json").read_text())
    (store.path / "feature.json").write_text(json.dumps(told | {"n_mels": 64}))
    with pytest.raises(StoreError, match="n_mels 64, the spectrograms have 8 bins"):
        FeatureStore.open(store.path)
    for wrong in ("{", "[1]"):
        (store.path / "feature.json").write_text(wrong)
        with pytest.raises(StoreError, match="build the store again"):
            FeatureStore.open(store.path)


@settings(max_examples=80)
@example(name="SHA256SUMS", bit=624)  # the end of a line becomes another one
@given(
    name=st.sampled_from(["manifest.csv", "logmel.npy", "feature.json", "SHA256SUMS"]),
    bit=st.integers(0, 10**6),
)
def test_every_flipped_bit_is_found(
    tmp_path_factory: pytest.TempPathFactory, name: str, bit: int
) -> None:
    store = make_store(tmp_path_factory.mktemp("flipped") / "store", n=4, n_frames=6)
    flip(store.path / name, bit)
    with pytest.raises(StoreError) as caught:
        assert FeatureStore.open(store.path).fingerprint
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@settings(max_examples=150)
@given(
    name=st.sampled_from(["manifest.csv", "logmel.npy", "feature.json", "SHA256SUMS"]),
    at=st.integers(0, 10**4),
    content=st.binary(max_size=60) | st.text(max_size=30).map(str.encode),
    whole=st.booleans(),
)
def test_any_content_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, at: int, content: bytes, whole: bool
) -> None:
    store = make_store(tmp_path_factory.mktemp("fuzzed") / "store", n=4, n_frames=6)
    file = store.path / name
    (store.path / "SHA256SUMS").unlink()
    old = file.read_bytes() if file.exists() and not whole else b""
    at = at % (len(old) + 1)
    file.write_bytes(old[:at] + content + old[at + len(content) :])
    with suppress(StoreError):
        assert FeatureStore.open(store.path).fingerprint


NOT_ALLOWED = [
    ("machine", "/../../../../escaped/fan"),
    ("machine", "fa/n"),
    ("machine", ".."),
    ("machine", ""),
    ("machine", "Average"),
    ("machine", "fan\nvalve"),
    ("machine", "f\0n"),
    ("machine", "x" * 65),
    ("section", "../00"),
    ("section", "0\t0"),
    ("label", "Anomaly"),
    ("domain", "elsewhere"),
]


def test_names_and_labels_that_are_not_allowed(tmp_path: Path) -> None:
    for number, (column, value) in enumerate(NOT_ALLOWED):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(StoreError, match=column):
            write_store(folder / "s", make_manifest(4).assign(**{column: value}), ZEROS, SMALL)
        store = write_store(folder / "s", make_manifest(4), ZEROS, SMALL)
        (store.path / "SHA256SUMS").unlink()
        make_manifest(4).assign(**{column: value}).to_csv(store.path / "manifest.csv", index=False)
        with pytest.raises(StoreError, match=f"{column}|bytes of zero"):
            FeatureStore.open(store.path)


def test_a_label_against_the_name_of_its_clip_is_refused(tmp_path: Path) -> None:
    names = [
        "normal_id_00_00000000.wav",
        "section_00_source_test_anomaly_0001_m_A.wav",
        "section_00_0002.wav",
        "bearing normal 12.wav",
    ]
    fine = make_manifest(4).assign(clip=names, label=["normal", "anomaly", "normal", "anomaly"])
    write_store(tmp_path / "fine", fine, ZEROS, SMALL)
    write_store(tmp_path / "bare", fine.assign(label=""), ZEROS, SMALL)
    for row, label in ((0, "anomaly"), (1, "normal")):
        wrong = fine.copy()
        wrong.loc[row, "label"] = label
        with pytest.raises(StoreError, match=f"'{names[row]}' has label '{label}'; expected what"):
            write_store(tmp_path / "wrong", wrong, ZEROS, SMALL)


BAD_PARAMETERS = [
    ("sample_rate", "fast"),
    ("sample_rate", 10**400),
    ("hop_length", 0),
    ("f_max", float("nan")),
    ("mel_scale", "bark"),
    ("n_mels", [8]),
    ("note", float("nan")),
]


def test_parameters_that_are_not_allowed(store: FeatureStore) -> None:
    for key, value in BAD_PARAMETERS:
        text = json.dumps(store.front_end | {key: value})
        (store.path / "feature.json").write_text(text)
        with pytest.raises(StoreError, match=r"feature\.json.* build the store again"):
            FeatureStore.open(store.path)


def test_ragged_manifests_and_longer_arrays_are_refused(store: FeatureStore) -> None:
    manifest = store.path / "manifest.csv"
    head, *rows = manifest.read_text().splitlines()
    for ragged in (
        [head, *(f"{row},x" for row in rows)],
        [head, rows[0], f"{rows[1]},x", *rows[2:]],
        [head, rows[0].rsplit(",", 1)[0], *rows[1:]],
    ):
        manifest.write_text("\n".join(ragged) + "\n")
        with pytest.raises(StoreError, match=r"manifest"):
            FeatureStore.open(store.path)
    manifest.write_text("\n".join([head, *rows]) + "\n")
    with (store.path / "logmel.npy").open("ab") as array:
        array.write(b"more")
    with pytest.raises(StoreError, match="more bytes than its header says"):
        FeatureStore.open(store.path)


@pytest.mark.parametrize(
    "reader", ["pathlib.Path.read_text", "numpy.lib.format.open_memmap", "pandas.read_csv"]
)
def test_a_store_without_permission_is_not_called_damaged(
    store: FeatureStore, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(reader, refuse)
    with pytest.raises(StoreError, match="check it and its permissions") as caught:
        FeatureStore.open(store.path)
    assert "build" not in str(caught.value)


def test_truncated_array(store: FeatureStore) -> None:
    file = store.path / "logmel.npy"
    whole = file.read_bytes()
    for keep in (0, 40, 200, 1000):
        file.write_bytes(whole[:keep])
        with pytest.raises(StoreError, match="cannot be read") as caught:
            FeatureStore.open(store.path)
        assert "\n" not in str(caught.value)


def test_an_array_without_sense(store: FeatureStore) -> None:
    file, good = store.path / "logmel.npy", (store.path / "logmel.npy").read_bytes()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", good)
    with pytest.raises(StoreError, match=r"logmel\.npy' cannot be read"):
        FeatureStore.open(store.path)
    for shape in (b"(-2, 8, 20)", b"(12, 8, 2**", b"exit(3)    "):
        file.write_bytes(good.replace(b"(12, 8, 20)", shape))
        with pytest.raises(StoreError, match=r"logmel\.npy' cannot be read"):
            FeatureStore.open(store.path)


def test_array_of_another_kind(store: FeatureStore) -> None:
    for array in [np.zeros((12, 8), np.float16), np.zeros((12, 8, 20)), np.array([{}])]:
        np.save(store.path / "logmel.npy", array, allow_pickle=True)
        with pytest.raises(StoreError, match=r"expected float16 \(clips, mel bins|cannot be read"):
            FeatureStore.open(store.path)


def test_write_store_refuses(tmp_path: Path, store: FeatureStore) -> None:
    manifest, path = make_manifest(4), tmp_path / "new"
    good = np.zeros((4, 8, 5))
    with pytest.raises(StoreError, match=r"shape \(3, 8, 5\) do not fit 4"):
        write_store(path, manifest, good[:3], SMALL)
    with pytest.raises(StoreError, match="NaN or infinite"):
        write_store(path, manifest, good + np.nan, SMALL)
    with pytest.raises(StoreError, match="NaN or infinite"):
        write_store(path, manifest, good + 1e5, SMALL)
    with pytest.raises(StoreError, match="lacks label"):
        write_store(path, manifest.drop(columns="label"), good, SMALL)
    with pytest.raises(StoreError, match="column 'domain' has missing values"):
        write_store(path, manifest.assign(domain=["source", None, "", ""]), good, SMALL)
    with pytest.raises(StoreError, match="expected 1 to 5"):
        write_store(path, manifest.assign(frames=[1, 2, 3, 6]), good, SMALL)
    with pytest.raises(StoreError, match="says n_mels 128"):
        write_store(path, manifest, good, FrontEnd())
    with pytest.raises(StoreError, match="exists; choose another output folder or remove it"):
        write_store(store.path, manifest, good, SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["store"], "nothing half-written is left"


def test_rows_by_column(store: FeatureStore) -> None:
    rows = store.rows(split="train", section=["00"])
    assert rows.index.tolist() == [0, 2, 4]
    assert rows.manifest.index.tolist() == [0, 1, 2]
    assert set(rows.manifest["split"]) == {"train"}
    mask = np.arange(12) > 2
    assert store.rows(mask, split="train", section="00").index.tolist() == [4]
    assert len(store.rows(split="train", label="anomaly")) == 0
    assert len(store.rows()) == 12
    assert store.rows(frames=["20"]).index.tolist() == [0, 3, 6, 9]


def test_rows_errors_name_what_is_known(store: FeatureStore) -> None:
    with pytest.raises(StoreError, match=r"machine 'fna' is not in .*\(known: 'fan'\)"):
        store.rows(machine=["fan", "fna"])
    with pytest.raises(StoreError, match=r"column 'part' .*\(known: clip, machine, section"):
        store.rows(part="00")
    for wrong in (np.ones(3, dtype=bool), [0, 12], [0.5]):
        with pytest.raises(IndexError):
            store.rows(wrong)


def test_select_by_mask_and_by_position(store: FeatureStore) -> None:
    rows = store.rows(split="test")
    assert rows.select(rows.manifest["label"] == "anomaly").index.tolist() == [6, 9]
    assert rows.select([5, 0]).index.tolist() == [11, 6]
    assert rows.select([5, 0]).manifest["clip"].tolist()[0].endswith("11.wav")
    assert len(rows.select([])) == 0


@settings(max_examples=60)
@given(
    picked=st.lists(st.integers(0, 11), max_size=30),
    batch_size=st.integers(1, 7),
)
def test_batches_give_every_clip_once_and_unpadded(
    tmp_path_factory: pytest.TempPathFactory, picked: list[int], batch_size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "for_batches"
    store = FeatureStore.open(path) if path.exists() else make_store(path)
    rows = store.rows().select(np.array(picked, dtype=int))
    seen: list[int] = []
    for positions, log_mel in rows.batches(batch_size):
        assert log_mel.dtype == np.float32
        assert log_mel.flags.c_contiguous
        assert log_mel.flags.writeable
        assert 1 <= len(positions) <= batch_size
        assert set(rows.frames[positions]) == {log_mel.shape[2]}
        for position, got in zip(positions, log_mel, strict=True):
            clip = picked[position]
            np.testing.assert_array_equal(got, store.features[clip, :, : store.frames[clip]])
        seen.extend(positions)
    assert sorted(seen) == list(range(len(picked)))


def test_batches_of_neighbouring_rows_keep_their_order(tmp_path: Path) -> None:
    for number, order in enumerate([[0, 1, 2, 3], [2, 3], [0, 2, 1, 3], [3, 2, 1], [1, 1, 2]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        features = np.arange(4)[:, None, None] + np.zeros((4, 8, 5))
        store = write_store(folder / "even", make_manifest(4), features, SMALL)
        ((positions, log_mel),) = store.rows().select(order).batches(10)
        assert positions.tolist() == list(range(len(order)))
        assert log_mel[:, 0, 0].tolist() == order


@settings(max_examples=60)
@given(data=st.data())
def test_crops_equal_slices(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "for_crops"
    store = FeatureStore.open(path) if path.exists() else make_store(path)
    rows = store.rows(split="test").select([4, 1, 3, 0])
    n_frames = data.draw(st.integers(1, 18))
    positions = data.draw(st.lists(st.integers(0, 3), max_size=8))
    starts = [data.draw(st.integers(0, int(rows.frames[p]) - n_frames)) for p in positions]
    crops = rows.crops(np.array(positions, dtype=int), np.array(starts, dtype=int), n_frames)
    assert crops.shape == (len(positions), 8, n_frames)
    assert crops.dtype == np.float32
    assert crops.flags.c_contiguous
    for got, position, start in zip(crops, positions, starts, strict=True):
        whole = store.features[rows.index[position]]
        np.testing.assert_array_equal(got, whole[:, start : start + n_frames])


def test_crops_never_reach_into_padding(store: FeatureStore) -> None:
    rows = store.rows()
    assert rows.crops([2], [8], 10).shape == (1, 8, 10)
    with pytest.raises(StoreError, match=r"frames 9 … 18 are not within clip 'normal_id_00_000"):
        rows.crops([0, 2], [0, 9], 10)
    with pytest.raises(StoreError, match=r"of 18 frames; take shorter excerpts"):
        rows.crops([2], [0], 19)
    for start, length in ((-1, 5), (0, 21), (0, 0)):
        with pytest.raises(StoreError, match="not within clip"):
            rows.crops([0], [start], length)
    with pytest.raises(ValueError, match="shape"):
        rows.crops([0, 1], [0, 0, 0], 5)


def test_fingerprint_covers_all_three_files(tmp_path: Path) -> None:
    a, b = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    assert a.fingerprint == b.fingerprint
    assert len(a.fingerprint) == 64
    found = {a.fingerprint, make_store(tmp_path / "c", seed=1).fingerprint}
    (b.path / "SHA256SUMS").unlink()
    told = json.loads((b.path / "feature.json").read_text())
    (b.path / "feature.json").write_text(json.dumps(told | {"note": "x"}))
    found.add(FeatureStore.open(b.path).fingerprint)
    manifest = pd.read_csv(b.path / "manifest.csv", dtype=str, keep_default_na=False)
    manifest.assign(domain="target").to_csv(b.path / "manifest.csv", index=False)
    found.add(FeatureStore.open(b.path).fingerprint)
    assert len(found) == 4


def test_pickle_carries_the_path_only(store: FeatureStore) -> None:
    rows = store.rows(split="test").select([3, 1])
    data = pickle.dumps(rows)
    assert len(data) < 4000
    again = pickle.loads(data)
    np.testing.assert_array_equal(again.crops([0], [2], 5), rows.crops([0], [2], 5))


def test_same_front_end(tmp_path: Path) -> None:
    manifest, features = make_manifest(4), np.zeros((4, 8, 5))
    a = write_store(tmp_path / "a", manifest, features, SMALL)
    longer = write_store(tmp_path / "longer", manifest, np.zeros((4, 8, 9)), SMALL)
    a.check_front_end(longer.described, "the other")
    sparse = write_store(tmp_path / "sparse", manifest, features, {"n_mels": 8})
    a.check_front_end(sparse.described, "the other")
    other = SMALL.model_copy(update={"hop_length": 64, "pad_mode": "constant"})
    b = write_store(tmp_path / "b", manifest, features, other)
    with pytest.raises(
        StoreError, match="hop_length 128 and 64; pad_mode 'reflect' and 'constant'"
    ):
        a.check_front_end(b.described, "the other")
    c = write_store(tmp_path / "c", manifest, np.zeros((4, 9, 5)), {})
    with pytest.raises(StoreError, match="n_mels 8 and 9"):
        a.check_front_end(c.described, "the other")


def test_toycar_opens_quickly(real_data: Path) -> None:
    start = time.process_time()
    store = FeatureStore.open(real_data / "toycar")
    assert time.process_time() - start < 1.0
    assert (len(store), store.n_mels, store.n_frames) == (1728, 128, 200)
    assert len(store.rows(split="train", label="normal")) == 1000
    np.testing.assert_allclose(store.mel_frequencies(), FrontEnd().mel_frequencies())
