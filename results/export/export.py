"""Measure exported files on real slide rails: agreement with the library, AUC, int8, cost.

    python results/export/export.py OUT WAV NAME=RUN …

WAV holds the test clips that the runs were scored on. Each run is exported in single precision and,
where it has a network, in int8; onnxruntime scores all test clips. The difference to the library's
AUC, mean over IDs, has a percentile interval of a paired bootstrap over clips (seed 0). Cost is
that of `benchmarks.bench_export.measure` for a file of one ID.
"""

import json
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import soundfile
import torch
from sklearn.metrics import roc_auc_score
from torchaudio.functional import resample

sys.path.insert(0, str(Path(__file__).parents[2]))

from asdlib.evaluation import read_score_folder
from asdlib.study import load_run
from asdlib.study.export import export
from benchmarks.bench_export import measure

DRAWS = 2000


def scores_of(file: Path, clips: pd.DataFrame, wav: Path) -> tuple[np.ndarray, int]:
    """Score clips by an exported file; return its sample rate, too."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options)
    told = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    rate, scores = told["front_end"]["sample_rate"], []
    for clip in clips.itertuples():
        waveform, own = soundfile.read(wav / clip.machine / "test" / clip.clip, dtype="float32")
        if own != rate:
            waveform = resample(torch.from_numpy(waveform), own, rate).numpy()
        column = told["sections"].index(f"{clip.machine}/{clip.section}")
        scores.append(session.run(["score"], {"waveform": waveform[None]})[0][0, column])
    return np.array(scores, dtype=np.float64), rate


def mean_auc(clips: pd.DataFrame, scores: np.ndarray, rows: np.ndarray) -> float:
    """AUC, mean over IDs, of some rows."""
    truth, section = clips["anomalous"].to_numpy()[rows], clips["section"].to_numpy()[rows]
    own = [section == each for each in sorted(set(section))]
    return float(np.mean([roc_auc_score(truth[at], scores[rows][at]) for at in own]))


def interval(clips: pd.DataFrame, one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """95 % interval of the difference of two AUC on the same clips."""
    rng, drawn = np.random.default_rng(0), []
    groups = list(clips.groupby(["section", "anomalous"]).indices.values())
    for _ in range(DRAWS):
        rows = np.concatenate([rng.choice(group, len(group)) for group in groups])
        drawn.append(mean_auc(clips, one, rows) - mean_auc(clips, other, rows))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def main(out: Path, wav: Path, runs: list[str]) -> None:
    """Write ``export.csv`` and ``provenance.json`` into `out`."""
    torch.set_num_threads(1)
    rows, keys = [], {}
    for text in runs:
        name, _, folder = text.partition("=")
        run = load_run(folder)
        keys[name] = run.record.key
        clips = read_score_folder(run.path, run.record.year).reset_index(drop=True)
        clips["anomalous"] = clips["clip"].str.startswith("anomaly")
        expected, every = clips["anomaly_score"].to_numpy(), np.arange(len(clips))
        spread = clips[~clips["anomalous"]].groupby("section")["anomaly_score"].std().max()
        first = f"{clips['machine'].iloc[0]}/{clips['section'].min()}"
        for int8 in (False, True)[: 1 + (run.record.config.system != "statistics")]:
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch) / "model.onnx"
                told = export(run, file, int8=int8)
                found, rate = scores_of(file, clips, wav)
                export(run, file, int8=int8, sections=[first])
                cost = measure(file, rate)
            low, high = interval(clips, found, expected)
            row = {
                "system": name,
                "weights": told["precision"],
                "off_relative": float((np.abs(found - expected) / np.abs(expected)).max()),
                "off_in_deviations": float(np.abs(found - expected).max() / spread),
                "auc": mean_auc(clips, found, every),
                "auc_library": mean_auc(clips, expected, every),
                "difference_low": low,
                "difference_high": high,
                **{"size_kb": cost["kB"], "ms_per_s": cost["ms / s"], "mib": cost["MiB"]},
            }
            rows.append(row)
            print(row, flush=True)
    pd.DataFrame(rows).to_csv(out / "export.csv", index=False, float_format="%.5g")
    record = {
        "data": "DCASE 2020 development slider, split as in results/machines: 120 normal and 333 "
        "anomalous test clips of four IDs",
        "command": "python results/export/export.py OUT WAV NAME=RUN …, one core",
        "runs": keys,
        "packages": {p: version(p) for p in ("asdlib", "onnxruntime", "onnxscript", "torch")},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (out / "provenance.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
