"""How hard the synthetic machines are, and how far their normal clips resemble real ones.

Two systems judge, each as it stands in `asdlib.baselines`: the statistical reference and the
autoencoder of DCASE 2020. For each seed and machine they are trained on the normal training clips
of the `classroom` corpus and score its normal test clips against

- the anomalies of the corpus itself (severity drawn from its range): rows with severity "corpus";
- the same clips with one fixed severity in one band.

With two domains (``--layout dcase2022``) the normal clips of each stand alone against all
anomalies, as in the official metric. `likeness` describes the normal clips; with
``ASDLIB_REAL_DATA`` set, those of real machines too.

One training serves all severities and bands, since only test clips differ. AUC in %, per section
(2020: ID). ``python benchmarks/calibrate_synthetic.py`` takes some five minutes of one core a seed;
``--quick`` is one seed, one severity, and few epochs. What is done for a seed and a machine is
kept beside ``--out``, so a run that was cut goes on. The tidy table goes to ``--out``;
``--publish FOLDER`` writes it without the rows of single causes as ``calibration.csv``, the
likeness as ``likeness.csv``, and what both were made by as ``calibration.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from scipy.spatial.distance import cdist

from asdlib.data.synthetic import BANDS, CAUSES, SPECS, SyntheticSpec, plan_corpus, render_clip

REPORT = Path(__file__).resolve().parents[1] / "build" / "calibration_synthetic.csv"
COLUMNS = [
    "machine",
    "section",
    "seed",
    "system",
    "severity",
    "band",
    "cause",
    "domain",
    "normals",
    "anomalies",
    "auc",
]
LIKENESS = ["data", "machine", "seed", "figure", "value"]
KINDS = ["all", "energy", "pattern"]


def log_mels(
    spec: SyntheticSpec, machine: str, variants: Sequence[tuple[float, str]], clips: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """Manifest and features (N, F, T) of one machine: its corpus and the variants of its faults.

    The variants are made of the first `clips` anomalous clips of each section.
    """
    import torch

    from asdlib.features import LogMel

    torch.set_num_threads(1)
    front_end = LogMel("dcase2020")
    rows, features = [], []
    for plan in plan_corpus(spec.model_copy(update={"machines": (machine,)})):
        clip = plan.clip
        kinds: list[tuple[str, str]] = [("corpus", spec.band if plan.cause else "")]
        if plan.cause and clip.index < clips:
            kinds += [(f"{severity:g}", band) for severity, band in variants]
        for severity, band in kinds:
            audio = render_clip(
                spec,
                machine,
                clip.section,
                clip.split,
                clip.label,
                clip.index,
                domain=clip.domain,
                severity=None if severity == "corpus" else float(severity),
                band=band or None,
            )
            with torch.inference_mode():
                features.append(front_end(torch.from_numpy(audio)[None])[0].numpy())
            rows.append(
                {
                    "clip": f"{severity}_{band}_{clip.clip}" if plan.cause else clip.clip,
                    "machine": machine,
                    "section": clip.section,
                    "split": clip.split,
                    "label": clip.label,
                    "domain": clip.domain,
                    "severity": severity,
                    "band": band,
                    "cause": plan.cause,
                }
            )
    return pd.DataFrame(rows), np.stack(features).astype(np.float16)


def likeness(table: pd.DataFrame, log_mel: np.ndarray, hz: np.ndarray) -> dict[str, float]:
    """Describe normal clips (N, F, T) in dB: how they differ within an ID, and between IDs."""
    log_mel = log_mel.astype(np.float32)
    spectrum = log_mel.mean(axis=2)
    level = spectrum.mean(axis=1)
    figures = {
        "level": level,
        "tilt": np.polyfit(np.log2(hz), spectrum.T, 1)[0],
        "floor": np.quantile(log_mel, 0.1, axis=2).mean(axis=1) - level,
        **{f"bin {i}": values for i, values in enumerate(spectrum.T)},
    }
    train = (table["split"] == "train").to_numpy()
    test = (table["split"] == "test").to_numpy() & (table["label"] == "normal").to_numpy()
    by_id = pd.DataFrame(figures)[train].groupby(table["section"].to_numpy()[train])
    within = by_id.std().mean()
    bins = [name for name in figures if name.startswith("bin")]
    ids = table["section"].to_numpy()
    nearest = cdist(spectrum[test], spectrum[train]).argmin(axis=1)
    return {
        "ID by nearest mean spectrum (%)": 100 * float(np.mean(ids[train][nearest] == ids[test])),
        "level within an ID (dB)": within["level"],
        "tilt within an ID (dB/octave)": within["tilt"],
        "floor below the level, within an ID (dB)": within["floor"],
        "mel bin within an ID (dB)": within[bins].mean(),
        "mel bin between IDs (dB)": by_id.mean().std()[bins].mean(),
        "course in time of a mel bin (dB)": float(log_mel[train].std(axis=2).mean()),
    }


def real_likeness() -> pd.DataFrame:
    """Likeness of the real recordings, or nothing without ``ASDLIB_REAL_DATA``."""
    from asdlib.features import FeatureStore, build_store

    if not (real := os.environ.get("ASDLIB_REAL_DATA")):
        return pd.DataFrame()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        stores = {
            "ToyCar": FeatureStore.open(Path(real) / "toycar"),
            "slider": build_store(Path(real) / "sound", Path(folder) / "slider", jobs=1),
        }
        for machine, store in stores.items():
            told = likeness(store.manifest, store.features, store.mel_frequencies())
            found += [("real", machine, 0, name, value) for name, value in told.items()]
    return pd.DataFrame(found, columns=LIKENESS)


def calibrate(
    spec: SyntheticSpec,
    machine: str,
    variants: Sequence[tuple[float, str]],
    clips: int,
    epochs: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """AUC and likeness of one machine with one seed, columns `COLUMNS` and `LIKENESS`."""
    import torch

    from asdlib.baselines import Autoencoder, TimeStatistics
    from asdlib.evaluation import auc
    from asdlib.features import PRESETS, write_store

    for noisy in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    manifest, features = log_mels(spec, machine, variants, clips)
    systems: dict[str, Any] = {"statistics": TimeStatistics(seed=spec.seed)}
    if epochs:
        systems["autoencoder"] = Autoencoder(seed=spec.seed, epochs=epochs, device="cpu")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "store", manifest, features, PRESETS["dcase2020"])
        train, test = store.rows(split="train"), store.rows(split="test")
        for name, system in systems.items():
            system.fit(train)
            scored = test.manifest.assign(score=system.score(test))
            for section, part in scored.groupby("section"):
                faulty = part[part["label"] == "anomaly"]
                kinds = faulty.assign(cause=[CAUSES[cause].kind for cause in faulty["cause"]])
                faulty = pd.concat([faulty, faulty.assign(cause="all"), kinds])
                groups = faulty.groupby(["severity", "band", "cause"])
                for domain, ((*key, cause), group) in itertools.product(spec.domains, groups):
                    normal = part.query("label == 'normal' and domain == @domain")["score"]
                    labels = np.repeat([0, 1], [len(normal), len(group)])
                    value = 100 * auc(labels, np.concatenate([normal, group["score"]]))
                    place = (machine, section, spec.seed, name, *key, cause, domain)
                    found.append((*place, len(normal), len(group), value))
        told = likeness(manifest, features, store.mel_frequencies())
    alike = [("synthetic", machine, spec.seed, *item) for item in told.items()]
    return pd.DataFrame(found, columns=COLUMNS), pd.DataFrame(alike, columns=LIKENESS)


def calibrate_once(
    file: Path,
    spec: SyntheticSpec,
    machine: str,
    variants: Sequence[tuple[float, str]],
    clips: int,
    epochs: int,
) -> list[pd.DataFrame]:
    """Return the result of `calibrate`, computed at most once."""
    files = [file.with_suffix(".likeness"), file]
    if not file.exists():
        tables = calibrate(spec, machine, variants, clips, epochs)
        for path, table in zip(files, reversed(tables), strict=True):
            replace_text(path, table.round(4).to_csv(index=False, lineterminator="\n"))
    text = {"section": str, "severity": str}
    return [pd.read_csv(path, dtype=text, keep_default_na=False) for path in reversed(files)]


def replace_text(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def commit() -> str:
    """The last commit of the code that decides the figures, with a mark where files differ."""
    root = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, check=False
        ).stdout.strip()

    rooms = [f"asdlib/{room}" for room in ("data", "features", "baselines", "evaluation")]
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *rooms)
    found = git("log", "-1", "--format=%H", "--", *rooms)
    return (found or "unknown") + (" with changes" if changed else "")


def publish(
    table: pd.DataFrame, alike: pd.DataFrame, made_by: dict[str, Any], folder: Path
) -> None:
    """Write what the book shows: AUC by kind of fault, likeness, and what they were made by."""
    corpus = table["severity"] == "corpus"
    overall = table[(table["cause"] == "all") | (corpus & table["cause"].isin(KINDS))]
    overall = overall.rename(columns={"cause": "faults"})
    for name, part in (("calibration", overall), ("likeness", alike)):
        text = part.round(2).to_csv(index=False, lineterminator="\n")
        replace_text(folder / f"{name}.csv", text)
    replace_text(folder / "calibration.json", json.dumps(made_by, indent=2) + "\n")


def show(table: pd.DataFrame, alike: pd.DataFrame) -> None:
    """Print means over sections and seeds."""
    print(alike.pivot_table(index="figure", columns=["data", "machine"], values="value").round(2))
    overall = table[table["cause"] == "all"]
    corpus = overall[overall["severity"] == "corpus"]
    by_seed = corpus.pivot_table(
        index="machine", columns=["system", "domain", "seed"], values="auc"
    )
    by_seed.loc["mean"] = by_seed.mean()
    print("\nThe corpus as it is: AUC in % per seed\n", by_seed.round(1).to_string(), sep="")
    causes = table[(table["severity"] == "corpus") & (table["domain"] == table["domain"].iloc[0])]
    by_cause = causes.pivot_table(index="machine", columns=["system", "cause"], values="auc")
    print("\nBy cause\n", by_cause.round(0).to_string(), sep="")
    fixed = overall[overall["severity"] != "corpus"]
    if len(fixed):
        grid = fixed.pivot_table(
            index="machine", columns=["system", "band", "severity"], values="auc"
        )
        grid.loc["mean"] = grid.mean()
        print("\nBy band and severity\n", grid.round(0).T.to_string(), sep="")
    keys = ["machine", "system", "band", "severity", "domain"]
    seeds = overall.groupby([*keys, "seed"])["auc"].mean().groupby(keys)
    cells = seeds.agg(["mean", "std", "size"])
    half = stats.t.ppf(0.975, cells["size"] - 1) * cells["std"] / np.sqrt(cells["size"])
    below = cells[cells["mean"] + half < 50]
    steps = fixed.groupby([*keys[:3], "severity"])["auc"].mean().groupby(keys[:3]).diff()
    for why, wrong in (
        ("below chance", below),
        ("lower than a smaller severity", steps[steps < 0]),
    ):
        if len(wrong):
            print(f"\nThe wrong way: {why}\n", wrong.round(1).to_string(), sep="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, severity 0.7, 5 epochs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--machines", nargs="+", help="by default all of the corpus")
    parser.add_argument("--severities", type=float, nargs="*", default=[0.25, 0.5, 1.0])
    parser.add_argument("--bands", nargs="+", default=["natural", *BANDS])
    parser.add_argument("--clips", type=int, default=8, help="clips of a variant, per section")
    parser.add_argument("--epochs", type=int, default=40, help="autoencoder; 0 leaves it out")
    parser.add_argument("--layout", default="dcase2020", choices=["dcase2020", "dcase2022"])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the corpus")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=REPORT)
    parser.add_argument("--publish", type=Path, help="folder for calibration.csv and .json")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.severities, args.epochs = args.seeds[:1], [0.7], min(args.epochs, 5)
    variants = list(itertools.product(args.severities, args.bands))
    changes = dict(pair.split("=", 1) for pair in args.set) | {"layout": args.layout}
    spec = SyntheticSpec.model_validate(SPECS["classroom"].model_dump() | changes)
    machines = args.machines or spec.machine_names
    settings: dict[str, Any] = {
        "spec": spec.model_dump(mode="json", exclude={"seed"}),
        "severities": args.severities,
        "bands": args.bands,
        "clips of a variant per section": args.clips,
        "autoencoder epochs": args.epochs,
    }
    version = {"commit": commit()}
    key = hashlib.sha256(json.dumps(settings | version).encode()).hexdigest()[:12]
    kept = args.out.with_suffix("") / key
    started = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.jobs, mp_context=context) as pool:
        tasks = [
            pool.submit(
                calibrate_once,
                kept / f"{seed}_{machine}.csv",
                spec.model_copy(update={"seed": seed}),
                machine,
                variants,
                args.clips,
                args.epochs,
            )
            for seed in args.seeds
            for machine in machines
        ]
        tables = zip(*(task.result() for task in tasks), strict=True)
        table, alike = (pd.concat(parts, ignore_index=True) for parts in tables)
    alike = pd.concat([alike, real_likeness()], ignore_index=True)
    replace_text(args.out, table.to_csv(index=False, lineterminator="\n"))
    if args.publish:
        made_by = {
            "command": " ".join(["python", "benchmarks/calibrate_synthetic.py", *sys.argv[1:]]),
            **version,
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machines": list(machines),
            "seeds": args.seeds,
            **settings,
            "train": "normal training clips of the corpus, one model a machine and seed",
            "auc": "in %, per section, by kind of fault",
        }
        publish(table, alike, made_by, args.publish)
    show(table, alike)
    print(f"\n{len(table)} rows in {args.out}, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
