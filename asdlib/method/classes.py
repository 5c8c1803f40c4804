"""What a network is trained on: the classes of the training clips, and clips beside them.

A first-shot data set has one section a machine, which is one class. More classes come from the
attributes in the file names, and where these are hidden from clusters of clips that sound alike.
Its supplemental clips, the machine without noise or the noise alone, are neither training nor test
clips; each kind can be put to use.

Shapes: N clips, D numbers that describe a clip.
"""

from typing import Literal

import numpy as np

from asdlib.features import Rows
from asdlib.system import per_clip, section_keys

Classes = Literal["section", "machine", "attribute"]

MOST_CLUSTERS = 8
_COMPONENTS = 8


def class_names(rows: Rows, classes: Classes, seed: int = 0) -> np.ndarray:
    """Name the class of each clip, shape (N,).

    Parameters
    ----------
    rows
        Training clips.
    classes
        The machine type and its section, the machine type alone, or the section and what the file
        name says of the clip's attributes; where it says nothing, the section and a cluster
        (`pseudo_classes`) of its clips.
    seed
        Decides where clustering starts.
    """
    keys = section_keys(rows.manifest)
    if classes == "machine":
        return rows.manifest["machine"].to_numpy(dtype=str)
    if classes == "section":
        return keys.astype(str)
    said = np.full(len(rows), "", object)
    if "attributes" in rows.manifest:
        said = rows.manifest["attributes"].to_numpy(dtype=object)
    hidden = np.isin(said.astype(str), ("", "noAttribute"))
    names = keys + "/" + said
    for key in sorted(set(keys[hidden])):
        here = np.flatnonzero(hidden & (keys == key))
        vectors = per_clip(rows.select(here), 64, _mean_and_deviation)
        clusters = pseudo_classes(vectors, seed)
        names[here] = [f"{key}/cluster {number}" for number in clusters]
    return np.asarray(names, dtype=str)


def pseudo_classes(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """Cluster clips that are described by vectors (N, D), and number the cluster of each, (N,).

    Gaussian mixtures with diagonal covariances are fitted to the first eight principal components,
    with 1 to `MOST_CLUSTERS` of them; that of the lowest Bayesian information criterion is taken,
    so that no label chooses their number.

    Notes
    -----
    G. Schwarz, "Estimating the dimension of a model", Annals of Statistics 6, 1978. Clusters in
    place of hidden attributes are common among the submissions of DCASE 2024; ours is one way [O].
    """
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    n_components = min(_COMPONENTS, len(vectors) - 1, vectors.shape[1])
    if n_components < 1 or not np.ptp(vectors, axis=0).any():
        return np.zeros(len(vectors), dtype=int)
    x = PCA(n_components, random_state=seed).fit_transform(vectors)
    least = 1e-3 * float(x.var(axis=0).mean())
    mixtures = [
        GaussianMixture(
            k, covariance_type="diag", reg_covar=least, n_init=3, max_iter=1000, random_state=seed
        ).fit(x)
        for k in range(1, min(MOST_CLUSTERS, len(x) // 2) + 1)
    ]
    return np.asarray(min(mixtures, key=lambda mixture: mixture.bic(x)).predict(x))


def _mean_and_deviation(log_mel: np.ndarray, positions: np.ndarray) -> np.ndarray:
    return np.concatenate([log_mel.mean(axis=2), log_mel.std(axis=2)], axis=1)


def supplemental(rows: Rows, kind: Literal["noise", "clean"]) -> Rows:
    """Select the supplemental clips in the store of `rows`, of their machines and one kind.

    By their file names, *noise* holds no machine sound, and *clean* is every other kind.
    """
    manifest = rows.store.manifest
    keys, own = section_keys(manifest), section_keys(rows.manifest)
    wanted = (manifest["split"] == "supplemental").to_numpy() & np.isin(keys, own)
    noise = manifest["clip"].str.match(r"section_[0-9]{2}_(?:[A-Za-z]+_)*noise_").to_numpy(bool)
    wanted &= noise if kind == "noise" else ~noise
    return rows.store.rows(wanted)
