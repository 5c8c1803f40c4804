"""Measure exported files on real slide rails: agreement with the library, AUC, int8, cost.

    python results/export/export.py OUT WAV NAME=RUN …

WAV holds the test clips that the runs were scored on. Each run is exported in single precision and,
where it has a network, in int8; onnxruntime scores all test clips. The difference to the library's
AUC, mean over IDs, has a percentile interval of a paired bootstrap over clips (seed 0). Cost is
that of `benchmarks.bench_export.measure` for a file of one ID. The normal test clips of each ID,
one after the other, are listened to as a stream with the thresholds of the held-out training clips:
false alarms a day by 3 of 4 windows, windows of 10 s half of one apart, with an exact Poisson
interval; the real-time factor is the processor time of that.

Rows of systems that are not named stay as they are in ``export.csv``. ``table.csv`` and
``listening.csv`` are made from it and ``localisation.csv``, which notebook 42 writes on the profile
classroom.
"""

import json
import sys
import tempfile
import time
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
from asdlib.study.listen import Listener, rate_per_day
from asdlib.study.score import load_model
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


def listening(run: Path, clips: pd.DataFrame, wav: Path) -> dict[str, float]:
    """Listen to the normal clips of all sections, one stream each, at two quantiles."""
    found: dict[str, float] = {}
    for quantile in (0.9, 0.99):
        model, events, heard = load_model(run, quantile=quantile), 0, 0.0
        started = time.process_time()
        for key, own in clips[~clips["anomalous"]].groupby(["machine", "section"]):
            paths = [wav / key[0] / "test" / clip for clip in sorted(own["clip"])]
            rate = soundfile.info(paths[0]).samplerate
            listener = Listener(model, "/".join(key), rate, window=10.0)
            clips_ = (soundfile.read(path, dtype="float32")[0] for path in paths)
            events += sum(each.event == "begin" for each in listener.hear(clips_))
            heard += listener.seconds
        rate = rate_per_day(events, heard)
        for name, key in (("", "per_day"), ("_low", "low"), ("_high", "high")):
            found[f"alarms_{100 * quantile:g}{name}"] = rate[key]
        found |= {"heard_s": heard, "real_time": (time.process_time() - started) / heard}
    return found


def measure_run(name: str, run: Path, wav: Path) -> list[dict[str, float | str]]:
    """Measure one system: its rows, single precision and int8."""
    record = load_run(run).record
    clips = read_score_folder(run, record.year).reset_index(drop=True)
    clips["anomalous"] = clips["clip"].str.startswith("anomaly")
    heard = listening(run, clips, wav)
    expected, every = clips["anomaly_score"].to_numpy(), np.arange(len(clips))
    spread = clips[~clips["anomalous"]].groupby("section")["anomaly_score"].std().max()
    first = f"{clips['machine'].iloc[0]}/{clips['section'].min()}"
    rows = []
    for int8 in (False, True)[: 1 + (record.config.system != "statistics")]:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "model.onnx"
            told = export(load_run(run), file, int8=int8)
            found, rate = scores_of(file, clips, wav)
            export(load_run(run), file, int8=int8, sections=[first])
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
        rows.append(row | ({} if int8 else heard))
    return rows


def table(folder: Path) -> pd.DataFrame:
    """Make the table of the page *Your own machine*: one row for each file."""
    measured = pd.read_csv(folder / "export.csv")
    hits = pd.read_csv(folder / "localisation.csv").set_index(["what", "method"])
    methods = {"statistics": "exact division", "contrastive": "occlusion, network"}

    def span(row: pd.Series, of: str) -> str:
        values = [row.get(of + end) for end in ("", "_low", "_high")]
        return "–" if pd.isna(values[0]) else "{:.0f} [{:.0f}, {:.0f}]".format(*values)

    rows = []
    for _, row in measured.iterrows():
        single, method = row["weights"] == "float32", methods.get(row["system"])
        change = 100 * (row["auc"] - row["auc_library"])
        hit = hits.loc[("band hit", method)] if single and method else None
        rows.append(
            {
                "Detector": f"{row['system']}, {row['weights']}",
                "Size, kB": f"{row['size_kb']:.0f}",
                "Time, ms": f"{row['ms_per_s']:.1f}",
                "Memory, MiB": f"{row['mib']:.0f}",
                "AUC, %": f"{100 * row['auc']:.1f}",
                "Change of AUC": f"{change:+.1f} [{100 * row['difference_low']:+.1f}, "
                f"{100 * row['difference_high']:+.1f}]".replace("-", "−"),
                "Change of scores": f"{row['off_in_deviations']:.0e}".replace("-", "−"),
                "False alarms a day (0.9)": span(row, "alarms_90"),
                "False alarms a day (0.99)": span(row, "alarms_99"),
                "Real-time factor": "–"
                if pd.isna(row.get("real_time"))
                else f"{row['real_time']:.4f}",
                "Band hits, %": "–"
                if hit is None
                else "{:.0f} [{:.0f}, {:.0f}]".format(*(100 * hit[["rate", "low", "high"]])),
            }
        )
    return pd.DataFrame(rows)


def write_tables(folder: Path) -> None:
    """Write what the page *Your own machine* prints: ``table.csv`` and ``listening.csv``."""
    whole = table(folder)
    whole.iloc[:, :7].to_csv(folder / "table.csv", index=False)
    heard = whole[whole["Detector"].str.endswith(", float32")].iloc[:, [0, *range(7, 11)]]
    heard = heard.assign(Detector=heard["Detector"].str.removesuffix(", float32"))
    heard.to_csv(folder / "listening.csv", index=False)


def main(out: Path, wav: Path, runs: list[str]) -> None:
    """Write ``export.csv``, both tables and ``provenance.json`` into `out`."""
    torch.set_num_threads(1)
    kept = pd.read_csv(out / "export.csv")
    record = json.loads((out / "provenance.json").read_text())
    for text in runs:
        name, _, folder = text.partition("=")
        order = list(dict.fromkeys([*kept["system"], name]))
        rows = pd.DataFrame(measure_run(name, Path(folder), wav))
        kept = pd.concat([kept[kept["system"] != name], rows])
        kept = kept.sort_values("system", key=lambda s: s.map(order.index), kind="stable")
        record["runs"][name] = load_run(folder).record.key
        record["measured"][name] = datetime.now(UTC).isoformat(timespec="seconds")
        record["packages"] = {
            p: version(p) for p in ("asdlib", "onnxruntime", "onnxscript", "torch")
        }
        kept.to_csv(out / "export.csv", index=False, float_format="%.5g")
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        (out / "provenance.json").write_text(text, encoding="utf-8")
    write_tables(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
