"""Commands about recordings and stores, as a user types them."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

sys.path.append(str(Path(__file__).parents[1] / "data"))

from fault_server import RECORD, FaultServer, recordings, zip_of

from asdlib.features import FeatureStore

WAVS = recordings()


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.add_zenodo(RECORD, {"dev_fan.zip": zip_of(WAVS)})
        yield running


@pytest.fixture
def wav_root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in (
        "train/normal_id_00_00000000.wav",
        "train/normal_id_02_00000000.wav",
        "test/anomaly_id_00_00000000.wav",
    ):
        path = tmp_path / "wav" / "fan" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(16000), 16000, subtype="PCM_16")
    return tmp_path / "wav"


def arguments(server: FaultServer, root: Path, *more: str) -> list[Any]:
    fixed = ["download", "dcase2022", "--machine", "fan", "--subset", "development"]
    return [*fixed, "--root", root, "--base-url", server.url, *more]


def test_download_shows_fetches_and_then_does_nothing(
    asd: Any, server: FaultServer, tmp_path: Path
) -> None:
    first = asd(*arguments(server, tmp_path, "--yes")).success
    assert "dev_fan.zip" in first.out
    assert "cc-by-4.0" in first.out
    assert "1 files fetched" in first.out
    base = tmp_path / "dcase2022" / "dev_data"
    assert {p.relative_to(base).as_posix() for p in base.rglob("*") if p.is_file()} == set(WAVS)
    asked = len(server.log)
    assert "are in place" in asd(*arguments(server, tmp_path, "--yes")).success.out
    assert len(server.log) == asked


def test_dry_run_only_says_what_would_be_done(
    asd: Any, server: FaultServer, tmp_path: Path
) -> None:
    told = asd(*arguments(server, tmp_path / "root", "--dry-run")).success.out
    assert "to fetch" in told
    assert "disk needed" in told
    assert not (tmp_path / "root").exists()


def test_download_without_a_yes_fetches_nothing(
    asd: Any, server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    outcome = asd(*arguments(server, tmp_path / "root"))
    assert outcome.code == 1
    assert "--yes" in outcome.err
    assert not any((tmp_path / "root").rglob("*.wav"))


def test_a_closed_input_is_no_yes(
    asd: Any, server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    outcome = asd(*arguments(server, tmp_path / "root"))
    assert outcome.code == 1
    assert "nothing was downloaded; --yes answers" in outcome.err


def test_synth_refuses_a_seed_without_bounds(asd: Any, tmp_path: Path) -> None:
    assert "'--seed'" in asd("synth", tmp_path / "out", "--seed", 2**63).error


def test_unknown_dataset_lists_the_known(asd: Any) -> None:
    assert "dcase2020" in asd("download", "dcase2019", "--dry-run").error


def test_data_ls_counts(asd: Any, wav_root: Path) -> None:
    counts = pd.DataFrame(json.loads(asd("data", "ls", wav_root, "--json").success.out))
    assert counts["clips"].sum() == 3
    assert set(counts["section"]) == {"00", "02"}
    assert "fan" in asd("data", "ls", wav_root).success.out


def test_data_check_names_the_broken_file(asd: Any, wav_root: Path) -> None:
    assert "no fault" in asd("data", "check", wav_root, "--no-official").success.out
    path = wav_root / "fan" / "train" / "normal_id_02_00000000.wav"
    path.write_bytes(path.read_bytes()[:5000])
    outcome = asd("data", "check", wav_root, "--no-official")
    assert outcome.code == 1
    assert "normal_id_02_00000000.wav" in outcome.err
    told = json.loads(asd("data", "check", wav_root, "--no-official", "--json").out)
    assert [fault["kind"] for fault in told["faults"]] == ["truncated"]


def test_data_check_compares_with_the_official_counts(asd: Any, wav_root: Path) -> None:
    for number in range(30):
        (wav_root / "fan" / "test" / f"{number}.wav").touch()
    outcome = asd("data", "check", wav_root)
    assert outcome.code == 1
    assert " missing, " in outcome.err
    *shown, told, error = outcome.err.splitlines()
    assert len(shown) == 20
    as_json = asd("data", "check", wav_root, "--json")
    assert as_json.err.startswith("error: "), "JSON has all faults; they are not printed as well"
    faults = json.loads(as_json.out)["faults"]
    assert told == f"note: {len(faults) - 20} more faults are not shown; --json lists all"
    assert error.endswith("; for recordings of your own give --no-official")


def test_features_with_ground_truth(asd: Any, wav_root: Path, tmp_path: Path) -> None:
    (wav_root / "fan/test/anomaly_id_00_00000000.wav").rename(
        wav_root / "fan/test/id_00_00000000.wav"
    )
    truth = tmp_path / "eval_data_list.csv"
    truth.write_text("fan\nid_00_00000000.wav,anomaly_id_00_00000007.wav,1\n")
    words = ["features", wav_root, tmp_path / "store", "--ground-truth", truth]
    asd(*words).success  # noqa: B018
    manifest = FeatureStore.open(tmp_path / "store").manifest
    labels = dict(zip(manifest["clip"], manifest["label"], strict=True))
    assert labels["id_00_00000000.wav"] == "anomaly"
    assert "leave one out" in asd(*words, "--any-layout").error
    truth.write_text("pump\nid_00_00000000.wav,anomaly_id_00_00000007.wav,1\n")
    assert "fan/id_00_00000000 is not in the ground truth" in asd(*words).error


def test_store_info_subset_and_merge(asd: Any, wav_root: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    asd("features", wav_root, store).success  # noqa: B018
    told = json.loads(asd("store", "info", store, "--json").success.out)
    assert (told["clips"], told["n_mels"], told["front_end"]["n_mels"]) == (3, 128, 128)
    assert told["bytes"] == 2 * 3 * 128 * told["n_frames"]
    assert told["shortest"] <= told["longest"] == told["n_frames"]
    assert sum(count["clips"] for count in told["counts"]) == 3
    assert told["fingerprint"] == FeatureStore.open(store).fingerprint
    parts = []
    for section in ("00", "02"):
        part = tmp_path / f"part-{section}"
        asd("store", "subset", store, part, "--where", f"section={section}").success  # noqa: B018
        parts.append(part)
    both, words = tmp_path / "both", ("--where", "section=00", "--where", "section=02")
    asd("store", "subset", store, both, *words).success  # noqa: B018
    assert len(FeatureStore.open(both)) == 3
    whole = tmp_path / "whole"
    asd("store", "merge", *parts, whole).success  # noqa: B018
    merged, original = FeatureStore.open(whole), FeatureStore.open(store)
    row_of = {path: row for row, path in enumerate(original.manifest["path"])}
    order = [row_of[path] for path in merged.manifest["path"]]
    assert sorted(order) == [0, 1, 2]
    assert np.array_equal(merged.features, original.features[order])
    told = asd(
        "store", "translate", store, tmp_path / "other", "--preset", "efficientat"
    ).success.out
    assert "3 clips, 128 mel bins" in told
    assert FeatureStore.open(tmp_path / "other").front_end["sample_rate"] == 32000


@pytest.mark.parametrize(
    ("where", "told"),
    [("section", "column=value"), ("section=99", "'99'"), ("colour=red", "colour")],
)
def test_store_subset_refuses_what_does_not_fit(
    asd: Any, wav_root: Path, tmp_path: Path, where: str, told: str
) -> None:
    asd("features", wav_root, tmp_path / "store").success  # noqa: B018
    out = tmp_path / "out"
    assert told in asd("store", "subset", tmp_path / "store", out, "--where", where).error
    assert not out.exists()
