"""Write the golden score folders of the evaluation tests and their exact figures.

Run ``python tests/golden/make_evaluation.py`` to make ``tests/golden/evaluation`` anew. The scores
are drawn here. The figures come from counting pairs and steps with fractions, without asdlib and
without scikit-learn, so that they are an independent reference.
"""

import json
import random
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

OUT = Path(__file__).parent / "evaluation"
MAX_FPR = Fraction(1, 10)


def exact_auc(normal, anomaly):
    wins = sum(Fraction(1) if a > n else Fraction(a == n, 2) for a in anomaly for n in normal)
    return wins / (len(anomaly) * len(normal))


def exact_pauc(normal, anomaly, max_fpr=MAX_FPR):
    points = [(Fraction(0), Fraction(0))]
    for threshold in sorted({*normal, *anomaly}, reverse=True):
        fpr = Fraction(sum(n >= threshold for n in normal), len(normal))
        tpr = Fraction(sum(a >= threshold for a in anomaly), len(anomaly))
        points.append((fpr, tpr))
    area = Fraction(0)
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= max_fpr or x1 == x0:
            continue
        x = min(x1, max_fpr)
        y = y0 + (y1 - y0) * (x - x0) / (x1 - x0)
        area += (x - x0) * (y0 + y) / 2
    least = max_fpr**2 / 2
    return (1 + (area - least) / (max_fpr - least)) / 2


def arithmetic(values):
    return sum(values) / len(values)


def harmonic(values):
    return len(values) / sum(1 / v for v in values)


def draw(rng, shift, n):
    # Two decimals make ties between clips.
    return [Fraction(round(100 * (10 + shift + rng.gauss(0, 1))), 100) for _ in range(n)]


def write(folder, name, rows):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(f"{clip},{value}\n" for clip, value in rows))


def make_2020(rng):
    folder, machines = OUT / "dcase2020", {}
    for machine, ids in (("fan", ("00", "02")), ("ToyCar", ("01", "02", "03"))):
        sections = {}
        for i, section in enumerate(ids):
            normal, anomaly = draw(rng, 0, 24 + i), draw(rng, 0.4 + 0.8 * i, 31 - i)
            rows = [
                (f"{label}_id_{section}_{k:08d}.wav", float(v))
                for label, values in (("normal", normal), ("anomaly", anomaly))
                for k, v in enumerate(values)
            ]
            write(folder, f"anomaly_score_{machine}_id_{section}.csv", rows)
            sections[section] = {
                "auc": exact_auc(normal, anomaly),
                "pauc": exact_pauc(normal, anomaly),
            }
        average = {m: arithmetic([s[m] for s in sections.values()]) for m in ("auc", "pauc")}
        machines[machine] = {"sections": sections, "average": average}
    averages = [machine["average"] for machine in machines.values()]
    lowest = [min(s["auc"] for s in m["sections"].values()) for m in machines.values()]
    return {
        "year": 2020,
        "machines": machines,
        "average": {m: arithmetic([a[m] for a in averages]) for m in ("auc", "pauc")},
        "mauc": arithmetic(lowest),
    }


def figures_2022(scores):
    every = {k: [*scores["source", k], *scores["target", k]] for k in ("normal", "anomaly")}
    return {
        "auc": exact_auc(every["normal"], every["anomaly"]),
        "pauc": exact_pauc(every["normal"], every["anomaly"]),
        "auc_source": exact_auc(scores["source", "normal"], every["anomaly"]),
        "auc_target": exact_auc(scores["target", "normal"], every["anomaly"]),
    }


def make_2022(rng, name, first_section, labelled):
    folder, machines, truth = OUT / name, {}, OUT / f"{name}_ground_truth"
    for machine in ("bearing", "ToyTrain"):
        sections = {}
        for number in range(first_section, first_section + 2):
            section = f"{number:02d}"
            scores = {
                ("source", "normal"): draw(rng, 0, 15),
                ("target", "normal"): draw(rng, 0.7, 12),
                ("source", "anomaly"): draw(rng, 1.3, 14),
                ("target", "anomaly"): draw(rng, 0.9, 13),
            }
            clips = []
            for (domain, label), values in scores.items():
                for k, value in enumerate(values):
                    clip = f"section_{section}_{domain}_test_{label}_{k:04d}_vel_{k % 3}.wav"
                    clips.append([clip, float(value), domain, label])
            if not labelled:
                rng.shuffle(clips)
                for k, row in enumerate(clips):
                    row[0] = f"section_{section}_{k:04d}.wav"
                file = f"ground_truth_{machine}_section_{section}_test.csv"
                for part, column, one in (("data", 3, "anomaly"), ("domain", 2, "target")):
                    rows = [(row[0], int(row[column] == one)) for row in clips]
                    write(truth / f"ground_truth_{part}", file, rows)
            file = f"anomaly_score_{machine}_section_{section}_test.csv"
            write(folder, file, [row[:2] for row in clips])
            sections[section] = figures_2022(scores)
        entry = {"sections": sections}
        names = list(next(iter(sections.values())))
        for key, mean in (("average", arithmetic), ("harmonic_mean", harmonic)):
            entry[key] = {m: mean([s[m] for s in sections.values()]) for m in names}
        machines[machine] = entry
    rows = [s for m in machines.values() for s in m["sections"].values()]
    terms = [s[m] for s in rows for m in ("auc_source", "auc_target", "pauc")]
    return {
        "year": 2022,
        "machines": machines,
        "average": {m: arithmetic([s[m] for s in rows]) for m in names},
        "harmonic_mean": {m: harmonic([s[m] for s in rows]) for m in names},
        "omega": harmonic(terms),
        "omega_terms": len(terms),
    }


def main():
    expected = {
        "dcase2020": make_2020(random.Random(2020)),
        "dcase2022": make_2022(random.Random(2022), "dcase2022", 0, labelled=True),
        "dcase2022_blind": make_2022(random.Random(3), "dcase2022_blind", 3, labelled=False),
    }
    text = json.dumps(expected, indent=1, default=float)
    (OUT / "expected.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
