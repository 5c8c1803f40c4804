"""Write how the spectra of anomalous test clips differ from those of normal ones, bin by bin.

python results/machines/spectra.py STORE OUT: for each ID and mel bin, the difference of the two
means in deviations of the normal clips, of the log-mel's mean and of its deviation over time.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from asdlib import FeatureStore

store = FeatureStore.open(sys.argv[1])
rows = store.rows(split="test")
batches = [(x.mean(axis=2), x.std(axis=2)) for _, x in rows.batches(64)]
statistics = [np.concatenate(parts).astype(float) for parts in zip(*batches, strict=True)]
sections, labels = (rows.manifest[column].to_numpy() for column in ("section", "label"))
parts = []
for section in np.unique(sections):
    for name, values in zip(("mean", "deviation"), statistics, strict=True):
        normal = values[(sections == section) & (labels == "normal")]
        anomalous = values[(sections == section) & (labels == "anomaly")]
        difference = (anomalous.mean(axis=0) - normal.mean(axis=0)) / normal.std(axis=0, ddof=1)
        columns = {"section": section, "statistic": name, "hz": store.mel_frequencies().round()}
        parts.append(pd.DataFrame(columns | {"difference": difference.round(3)}))
pd.concat(parts).to_csv(Path(sys.argv[2]), index=False)
