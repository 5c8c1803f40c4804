"""The exported file says what the library says, from the waveform on, for any batch and length."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
from study_stores import QUICK, write_recordings

import asdlib
from asdlib.errors import AsdError
from asdlib.features import FeatureStore, build_store
from asdlib.features.logmel import translate_store
from asdlib.study import RunResult
from asdlib.study.config import system_class
from asdlib.study.explain import explain
from asdlib.study.export import export
from asdlib.study.held_out import decide_run, write_held_out
from asdlib.study.score import load_model, log_mels

REAL = os.environ.get("ASDLIB_REAL_DATA")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    write_recordings(folder / "wav", machines=("fan", "pump"), n_train=8)
    # Clips of several lengths, one with a rest that fills no frame.
    for i, file in enumerate(sorted((folder / "wav").rglob("test/*.wav"))):
        samples, rate = soundfile.read(file)
        soundfile.write(file, np.tile(samples, 2)[: 16000 + 777 * i], rate)
    build_store(folder / "wav", folder / "dcase2020")
    return folder


def agree(run: RunResult, file: Path, store: FeatureStore, wav: Path) -> dict[str, Any]:
    """Hold a file against the library on all test clips; return its metadata."""
    session = onnxruntime.InferenceSession(file)
    told = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    rows = store.rows(split="test")
    keys = (rows.manifest["machine"] + "/" + rows.manifest["section"]).to_numpy()
    rows = rows.select(np.isin(keys, told["sections"]))
    expected = system_class(run.record.config.system).load(run.path / "model").score(rows)
    rate, names = told["front_end"]["sample_rate"], [o.name for o in session.get_outputs()]
    # Log-mels of a sum over levels lie around 0 in deviations of normal clips.
    level_sum = run.record.config.params.get("backend") == "level_sum"
    for row, clip in enumerate(rows.manifest.itertuples()):
        (path,) = wav.rglob(f"{clip.machine}/test/{Path(clip.clip).stem}.*")
        waveform, own_rate = soundfile.read(path, dtype="float32")
        if own_rate != rate:
            import torch
            from torchaudio.functional import resample

            waveform = resample(torch.from_numpy(waveform), own_rate, rate).numpy()
        both = np.stack([waveform, 0.5 * waveform])
        found = dict(zip(names, session.run(None, {"waveform": both}), strict=True))
        column = told["sections"].index(f"{clip.machine}/{clip.section}")
        score = found["score"][0, column]
        np.testing.assert_allclose(score, expected[row], rtol=1e-3, atol=1e-3 * level_sum)
        assert not np.isclose(found["score"][1, column], score, rtol=1e-4), "half as loud"
        assert found["anomalous"][0, column] == (score > told["thresholds"][column])
        kept = rows.store.features[rows.index[row]][:, : found["log_mel"].shape[2]]
        np.testing.assert_allclose(found["log_mel"][0], kept, atol=0.05)
        assert (found["log_mel"][0] == kept).mean() > 0.99
        if "parts" in found:
            total = found["parts"][0, column].sum()
            np.testing.assert_allclose(total, expected[row] ** 2, rtol=1e-3)
    return told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "params", "preset"),
    [
        ("statistics", {"statistics": "mean+deviation"}, "dcase2020"),
        ("statistics", {}, "ast"),  # Kaldi's framing
        ("autoencoder", QUICK["autoencoder"], "dcase2020"),
        ("contrastive", QUICK["contrastive"], "dcase2020"),
    ],
)
def test_a_file_scores_as_the_library_does(
    recordings: Path, tmp_path: Path, system: str, params: dict[str, Any], preset: str
) -> None:
    store = build_store(recordings / "wav", recordings / preset, preset=preset)
    run = asdlib.run(system, store.path, store.path, tmp_path / "run", params=params)
    # One section of each of two machines is enough.
    sections = ["pump/02", "fan/00"] if system != "contrastive" else ["pump/02"]
    file = tmp_path / "model.onnx"
    export(run, file, train=store.path, sections=sections, quantile=0.8)
    told = agree(run, file, store, recordings / "wav")
    assert told["sections"] == sections
    assert told["origin"]["run"] == run.record.key
    assert str(Path(asdlib.__file__).parent).encode() not in file.read_bytes()
    onnx.checker.check_model(onnx.load(file))
    if system == "autoencoder":
        small = tmp_path / "int8.onnx"
        export(run, small, train=store.path, sections=sections, int8=True)
        steps = [[n.op_type for n in onnx.load(f).graph.node] for f in (file, small)]
        assert steps[0].count("MatMul") == steps[1].count("MatMul"), "the front end alone"
        assert steps[0].count("Gemm") == steps[1].count("MatMulInteger") == 20
        noise = np.random.default_rng(0).normal(0, 0.1, (1, 20000)).astype(np.float32)
        scores = [
            onnxruntime.InferenceSession(f).run(["score"], {"waveform": noise})[0]
            for f in (file, small)
        ]
        np.testing.assert_allclose(*scores, rtol=0.02)
    decided = decide_run(run.path, quantile=0.8)
    limits = decided.thresholds.set_index(["machine", "section"])["threshold"]
    assert told["thresholds"] == [limits[tuple(section.split("/"))] for section in sections]
    assert [len(told["held_out"][section]) for section in sections] == [8] * len(sections)
    # Who loads the file decides as the run does.
    loaded = load_model(file)
    assert [loaded.thresholds[section] for section in sections] == told["thresholds"]
    assert load_model(file, quantile=0.9).thresholds != loaded.thresholds
    # It hears the same in the same place, for the same reason.
    of_run = load_model(run.path, train=store.path)
    of_file = load_model(file, train=None if of_run.divide else store.path)
    machine, number = (key := sections[-1]).split("/")  # not the first column
    for path in sorted((recordings / f"wav/{machine}/test").glob(f"*_id_{number}*"))[:4]:
        waveform = soundfile.read(path, dtype="float32")[0]
        one, other = (explain(model, waveform, key) for model in (of_run, of_file))
        assert (one.bins, one.frames, one.method) == (other.bins, other.frames, other.method)
        largest = np.abs(one.by_bin).max()
        np.testing.assert_allclose(other.by_bin, one.by_bin, rtol=1e-3, atol=1e-3 * largest)
        np.testing.assert_allclose(other.difference, one.difference, atol=1e-2)
        if of_run.divide and of_file.divide:
            half = log_mels(waveform[None], of_run.front_end)[0]
            parts = [model.divide(half, key) for model in (of_run, of_file)]
            np.testing.assert_allclose(*parts, atol=1e-4 * np.abs(parts[0]).max())
            assert other.by_bin.min() >= 0


@pytest.mark.slow
def test_what_cannot_be_exported_is_said(recordings: Path) -> None:
    store = FeatureStore.open(recordings / "dcase2020")
    out = recordings / "refused.onnx"

    def made(name: str, system: str = "statistics", **params: Any) -> RunResult:
        return asdlib.run(system, store.path, store.path, recordings / name, params=params)

    mean = made("mean")
    other = translate_store(store, recordings / "translated", "efficientat").path
    translated = asdlib.run("statistics", other, other, recordings / "of translated")
    for run, asked, expected in (
        (mean, {"sections": ["fan/01"]}, r"'fan/01' is not known in .*known: fan/00, fan/02"),
        (mean, {"int8": True}, "'statistics' has no network for int8"),
        (made("quantiles", statistics="mean+deviation+quantiles"), {}, "without quantiles"),
        (mean, {"train": None}, "name the store"),
        (mean, {"out": recordings}, "does not end in .onnx"),
        (
            translated,
            {"train": other},
            r"features .*\(translated, .*store that asd feat",
        ),
    ):
        (run.path / "held_out.csv").unlink(missing_ok=True)
        with pytest.raises(AsdError, match=expected):
            export(run, **{"out": out, "train": store.path} | asked)
    assert list(recordings.glob("*refused*")) == []


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="ASDLIB_REAL_DATA is not set")
@pytest.mark.parametrize(
    ("preset", "system", "params"),
    [
        ("dcase2020", "statistics", {"covariance": "pooled"}),
        ("efficientat", "contrastive", {"encoder": "efficientat", "epochs": 0}),
    ],
)
def test_a_file_scores_real_recordings_as_the_library_does(
    tmp_path: Path, preset: str, system: str, params: dict[str, Any]
) -> None:
    """Two seconds of eight slide rails, and of a fan, a toy car and a conveyor in their place."""
    real = Path(str(REAL))
    rails = real / "sound" / "slider"
    others = sorted((real / "wav").rglob("anomaly_*.wav"))
    for split, files in (
        ("train", sorted(rails.glob("train/normal_id_00_0000100?.*"))[:6]),
        ("test", [*sorted(rails.glob("test/*_id_00_0000000?.*"))[::8], *others]),
    ):
        folder = tmp_path / "wav" / "slider" / split
        folder.mkdir(parents=True)
        for i, file in enumerate(files):
            samples, rate = soundfile.read(file, stop=32000)
            label = file.name.split("_")[0]
            soundfile.write(folder / f"{label}_id_00_{i:08d}.wav", samples, rate, "PCM_16")
    store = build_store(tmp_path / "wav", tmp_path / "store", preset=preset, resample=True)
    if "encoder" in params:
        source = real / "weights"
        params = params | {"pretrained": {"source": str(source), "mode": "frozen"}}
    run = asdlib.run(system, store.path, store.path, tmp_path / "run", params=params)
    normal = store.rows(split="train").manifest.assign(anomaly_score=[1.0, 2.0, 3.0, 4.0, 5.0, 9.0])
    write_held_out(normal, run.path)  # five fits of ten levels would take a minute
    export(run, tmp_path / "model.onnx")
    agree(run, tmp_path / "model.onnx", store, tmp_path / "wav")
