"""Where does each step of the block help? Makes ``conditions.csv`` anew.

Call:  python results/synthetic/conditions/conditions.py OUT

Four conditions of synthetic machines: the corpus as it is, with faults where they belong or heard
in one band only; a quarter of its training clips; classes of machine types; two domains. Under each
the block is trained whole and without each step. The embedding alone scores: the default sum over
levels contains the mean spectrum, which no step can change.

Recordings, stores and runs lie below OUT; a second call goes on where the first was stopped. The
whole takes about 70 minutes of a core.
"""

import sys
from pathlib import Path
from typing import Any

import pandas as pd

from asdlib.study import Study, Variant, experiment
from asdlib.study.config import merge
from asdlib.study.result import Results, write_table

SPEC: dict[str, Any] = {
    "n_sections": 3,
    "n_train": 48,
    "n_test": 20,
    "target_share": 0.125,
    "seconds": 4.0,
    "seeds": 5,
    "epochs": 6,
}
OFF: dict[str, dict[str, bool]] = {
    "full": {},
    "pre-norm": {"pre_norm": False},
    "mixup": {"mixup": False},
    "RRC": {"rrc": False},
    "post-norm": {"post_norm": False},
    "all but pre-norm": {"mixup": False, "rrc": False, "post_norm": False},
}
CONDITIONS: dict[str, dict[str, Any]] = {
    "as it is": {"bands": ["natural", "low", "mid", "high"]},
    "a quarter of the clips": {"share": 0.25},
    "a class a machine type": {"params": {"classes": "machine"}},
    "two domains": {"layout": "dcase2022"},
}


def make_conditions(out: Path, spec: dict[str, Any], machines: list[str] | None = None) -> None:
    """Train and score under every condition; write the table and its provenance."""
    results = Results(out, {}, command="conditions.py", spec=spec, conditions=list(CONDITIONS))
    study = Study("classroom", out)
    corpus = {k: spec[k] for k in ("n_sections", "seconds", "target_share")}
    corpus["machines"] = machines
    base = {"embedding": "encoder", "backend": "mahalanobis", "epochs": spec["epochs"]}
    variants = {}
    for name, condition in CONDITIONS.items():
        layout = condition.get("layout", "dcase2020")

        def store(part: str, n_train: int, n_test: int, **more: Any) -> Any:
            numbers = {"n_train": n_train, "n_test_normal": n_test, "n_test_anomaly": n_test}
            own = corpus | {"layout": layout} | numbers | more  # noqa: B023 (called at once)
            return study.synthetic_store(f"{layout}-{part}", **own)  # noqa: B023

        # The half of a corpus that is not used is as small as it may be.
        train = store("train", spec["n_train"], 2 if layout == "dcase2022" else 1)
        for band in condition.get("bands", ["natural"]):
            test = store(band, 2, spec["n_test"], band=band)
            for without, steps in OFF.items():
                variants[f"{name}, faults {band}, without {without}"] = Variant(
                    params=merge(base | condition.get("params", {}), {"augmentation": steps}),
                    train=train,
                    test=test,
                    share=condition.get("share", 1.0),
                    columns={"condition": name, "band": band, "without": without},
                )
    table = experiment(variants, study.root, seeds=range(spec["seeds"]))
    table = table[table["section"] == "Average"]
    metrics = ["auc", "pauc", "auc_source", "auc_target"]
    columns = ["condition", "band", "without", "seed", "machine", *metrics]
    with results.writing() as folder:
        write_table(pd.DataFrame(table[columns]).round(6), folder / "conditions.csv")


if __name__ == "__main__":
    make_conditions(Path(sys.argv[1]), SPEC)
