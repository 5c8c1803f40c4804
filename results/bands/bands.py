"""In which bands are real anomalies heard? Makes ``bands.csv`` and ``differences.csv`` anew.

Call:  python results/bands/bands.py STORE [STORE ...]

STORE is a feature store of real recordings (front end dcase2020). Nothing is trained and nothing
chosen: the statistical reference, the Mahalanobis distance of a clip's mean spectrum, hears all mel
bins, then only those of one half, quarter or octave.
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.covariance import LedoitWolf

from asdlib.baselines import TimeStatistics
from asdlib.evaluation import interval_frame, paired_frame
from asdlib.features import FeatureStore, Rows
from asdlib.study.result import Results, write_table
from asdlib.system import section_keys

OCTAVES = (0, 250, 500, 1000, 2000, 4000, 8000)


def bands_of(store: FeatureStore) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the kind of a band, and its mel bins."""
    bins, hertz = np.arange(store.n_mels), store.mel_frequencies()
    yield "all", bins
    yield from (("half", part) for part in np.array_split(bins, 2))
    yield from (("quarter", part) for part in np.array_split(bins, 4))
    for low, high in itertools.pairwise(OCTAVES):
        yield "octave", bins[(hertz >= low) & (hertz < high)]


def mean_spectra(rows: Rows) -> np.ndarray:
    """Average each clip over time, (N, mel bins)."""
    batches = rows.batches(64)
    return np.concatenate([x.mean(axis=2, dtype=np.float64) for _, x in batches])


def scored(train: Rows, test: Rows, bins: np.ndarray) -> pd.DataFrame:
    """Score the test clips by the bins of a band."""
    normal, heard = (mean_spectra(rows)[:, bins] for rows in (train, test))
    scores = np.empty(len(test))
    keys, test_keys = section_keys(train.manifest), section_keys(test.manifest)
    for key in np.unique(test_keys):
        model = LedoitWolf().fit(normal[keys == key])
        scores[test_keys == key] = np.sqrt(model.mahalanobis(heard[test_keys == key]))
    return test.manifest.assign(anomaly_score=scores)


def main(*stores: str) -> None:
    """Score every band, and write the tables with their provenance."""
    opened = {store.path.absolute().name: store for store in map(FeatureStore.open, stores)}
    figures, differences = [], []
    for store in opened.values():
        train, test = store.rows(split="train", label="normal"), store.rows(split="test")
        hertz, halves = store.mel_frequencies(), []
        for kind, bins in bands_of(store):
            scores = scored(train, test, bins)
            if kind == "all":
                reference = TimeStatistics().fit(train).score(test)
                np.testing.assert_allclose(scores["anomaly_score"], reference, rtol=1e-6)
            halves += [scores] if kind == "half" else []
            edges = {"low_hz": round(hertz[bins[0]]), "high_hz": round(hertz[bins[-1]])}
            about = {"kind": kind, **edges, "bins": len(bins)}
            figures.append(interval_frame([scores], 2020).assign(**about))
        upper, lower = halves[1], halves[0]
        about = {"system": "upper half of the mel bins", "reference": "lower half"}
        differences.append(paired_frame([upper], [lower], 2020).assign(**about))
    results = Results(
        Path(__file__).parent, opened, command="python results/bands/bands.py STORE …"
    )
    with results.writing() as folder:
        for name, tables in (("bands", figures), ("differences", differences)):
            table = pd.concat(tables, ignore_index=True)
            # The overall average of one machine type is that of the machine.
            write_table(table[table["machine"] != "Average"].round(6), folder / f"{name}.csv")


if __name__ == "__main__":
    main(*sys.argv[1:])
