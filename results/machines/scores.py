"""Write the scores of all clips of named runs, NAME=RUN …, as one compressed table."""

import sys
from pathlib import Path

import pandas as pd

from asdlib.evaluation import read_score_folder
from asdlib.study import load_run

out, *rows = sys.argv[1:]
parts = []
for row in rows:
    name, _, folder = row.partition("=")
    scores = read_score_folder(Path(folder), 2020)[["machine", "section", "clip", "anomaly_score"]]
    parts.append(scores.assign(system=name, seed=load_run(folder).record.config.seed))
table = pd.concat(parts, ignore_index=True)
table["anomaly_score"] = table["anomaly_score"].map("{:.6g}".format)
table.to_csv(out, index=False)
