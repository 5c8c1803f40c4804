"""What each part of the first-shot protocol is worth on synthetic machines: makes ``scores.csv``.

Call:  python results/synthetic/first_shot/first_shot.py [WEIGHTS]

WEIGHTS is the folder that `asd weights mn04` prints; without it the AudioSet network is left out.

A corpus in the layout of 2025 for each seed, which also decides the training: 94 source and 6
target clips a machine, 10 supplemental ones, 80 test clips. Two of the four machines hide their
attributes; two have clean clips and two noise. Rows that are there are kept.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from asdlib.baselines import Autoencoder
from asdlib.data.synthetic import SyntheticSpec, write_corpus
from asdlib.evaluation import evaluate
from asdlib.features import FeatureStore, build_store, translate_store
from asdlib.method import Contrastive
from asdlib.study.config import code_version
from asdlib.study.result import describe_environment, now

SEEDS = range(5)
SPEC = SyntheticSpec(
    layout="dcase2025",
    machines=("ToyTrain", "bearing", "fan", "gearbox"),
    n_train=100,
    target_share=0.06,
    n_test_normal=40,
    n_test_anomaly=40,
    seconds=2.0,
)
TRAINING = {"epochs": 4, "crop_frames": 32, "embedding": "encoder", "backend": "knn"}
ATTRIBUTES = {"classes": "attribute"}
PARTS = {
    "sections as classes": {},
    "attributes": ATTRIBUTES,
    "+ balanced domains": ATTRIBUTES | {"balanced_domains": True},
    "+ noise clips": ATTRIBUTES | {"supplemental_noise": True},
    "+ clean clips": ATTRIBUTES | {"supplemental_clean": True},
    "all parts": ATTRIBUTES
    | {"balanced_domains": True, "supplemental_noise": True, "supplemental_clean": True},
}
METRICS = ["auc_source", "auc_target", "pauc"]
BACKENDS = {
    "knn": ("knn", {}),
    "local density": ("local_density_knn", {}),
    "local density, whitened": ("local_density_knn", {"whiten": True, "metric": "euclidean"}),
    "balanced memory": ("balanced_knn", {}),
    "SMOTE": ("balanced_knn", {"centres": None, "smote": 3}),
    "least variance": ("variance_minimised", {}),
    "selective Mahalanobis": ("selective_mahalanobis", {}),
}


AUDIOSET = "AudioSet, frozen"


def systems(
    store: FeatureStore, seed: int, weights: list[str], done: set[str]
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield the name of a network, that of a back-end, and the scored test clips."""
    spectrum = {"epochs": 0, "embedding": "spectrum"}
    networks = {"autoencoder": {}, "mean spectrum": spectrum} | PARTS
    for source in weights:
        pretrained = {"source": source, "mode": "frozen"}
        networks[AUDIOSET] = {"encoder": "efficientat", "pretrained": pretrained, "epochs": 0}
    for name in [name for name in networks if name not in done]:
        if name == AUDIOSET:
            store = translate_store(store, f"{store.path}-translated", "efficientat")
        train, test = store.rows(split="train"), store.rows(split="test")
        if name == "autoencoder":
            scores = Autoencoder(seed=seed, epochs=20).fit(train).score(test)
            yield name, "mean squared error", test.manifest.assign(anomaly_score=scores)
            continue
        system = Contrastive(seed=seed, **TRAINING | networks[name]).fit(train)
        every = name in ("mean spectrum", "all parts", AUDIOSET)
        for backend, (kind, options) in BACKENDS.items() if every else [("knn", ("knn", {}))]:
            change = {"backend": kind, "backend_params": options}
            system.params = system.params.model_copy(update=change)
            scores = system.fit_backend(train).score(test)
            yield name, backend, test.manifest.assign(anomaly_score=scores)


def main(*weights: str) -> None:
    """Score the systems that are missing, and write the table and its origin."""
    torch.set_num_threads(1)
    folder = Path(__file__).parent
    file = folder / "scores.csv"
    table = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["seed", "network"])
    for seed in SEEDS:
        rows = [table]
        done = set(table.loc[table["seed"] == seed, "network"])
        with tempfile.TemporaryDirectory() as place:
            spec = SPEC.model_copy(update={"seed": seed})
            write_corpus(spec, f"{place}/wav", jobs=1)
            store = build_store(f"{place}/wav", f"{place}/store", jobs=1)
            for network, backend, scores in systems(store, seed, list(weights), done):
                frame = evaluate(scores, year=2025).frame
                frame = frame[frame["section"] != "Average"]
                row = {"seed": seed, "network": network, "backend": backend}
                rows.append(frame.assign(**row)[[*row, "machine", *METRICS]].round(6))
        table = pd.concat(rows) if len(table) else pd.concat(rows[1:])
        table.to_csv(file, index=False, lineterminator="\n")
    origin = {
        "command": "python results/synthetic/first_shot/first_shot.py [WEIGHTS of mn04]",
        "spec": json.loads(SPEC.model_dump_json()),
        "training": TRAINING,
        "networks": PARTS,
        "backends": BACKENDS,
        "seeds": list(SEEDS),
        "code_version": code_version(),
        "finished": now(),
        "environment": describe_environment(),
    }
    text = json.dumps(origin, indent=2) + "\n"
    (folder / "provenance.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
