"""Write how each level of the frozen AudioSet network does alone, and what its weight rests on.

python results/machines/levels.py RUN STORE OUT: RUN is the run `audioset` of make.sh and STORE the
store that it was made on. AUC and pAUC use test labels; the separation d′ does not.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from asdlib import Contrastive, FeatureStore
from asdlib.evaluation import auc, pauc
from asdlib.method import build_backend

run, store, out = map(Path, sys.argv[1:])
system, features = Contrastive.load(run / "model"), FeatureStore.open(store)
train, test = features.rows(split="train", label="normal"), features.rows(split="test")
fitted, tested = system.embed(train), system.embed(test)
of_train, of_test = (
    (rows.manifest["machine"] + "/" + rows.manifest["section"]).to_numpy() for rows in (train, test)
)
anomalous = (test.manifest["label"] == "anomaly").to_numpy().astype(int)
levels = system.levels_
sizes = system.network_.size_of(levels)
whole = build_backend("level_sum", levels=levels, sizes=tuple(sizes)).fit(fitted, of_train)
parts = zip(*(np.split(x, np.cumsum(sizes)[:-1], axis=1) for x in (fitted, tested)), strict=True)
rows = []
for number, (level, (normal, clips)) in enumerate(zip(levels, parts, strict=True)):
    scores = build_backend("pooled_mahalanobis").fit(normal, of_train).score(clips, of_test)
    for section in sorted(set(of_test)):
        here = of_test == section
        pair = anomalous[here], scores[here]
        d = whole.models_[section]["separation"][number]
        rows.append((section, level, sizes[number], d, auc(*pair), pauc(*pair)))
table = pd.DataFrame(rows, columns=["section", "level", "size", "separation", "auc", "pauc"])
table.round(6).to_csv(out, index=False)
