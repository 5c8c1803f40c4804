"""A trained network, scored in another way or on other clips without being trained again.

What is embedded, and how embeddings become scores, does not enter training. Two runs that differ in
nothing else, or only in their test clips, therefore have the same network: one of them is
trained, the other takes its network and fits a back-end of its own. The outcome is that of a
complete run, under the same key (a test compares both).

A network that another version of the code trained can be taken too: training may have changed in
between, so that run has a key of its own and tells both versions.
"""

from typing import TYPE_CHECKING, Any

from asdlib.errors import RunError
from asdlib.features import Rows
from asdlib.study.config import RunConfig
from asdlib.study.result import RunResult

if TYPE_CHECKING:
    from asdlib.system import Progress, System

SCORING = ("backend", "embedding", "score_batch_size", "segment")
"""Parameters of the contrastive system that do not enter training."""


def trained(config: RunConfig) -> dict[str, Any]:
    """Give what decides the network of a run: its configuration without how and what it scores.

    The version of the code is left out, see `told_donor`.
    """
    told = config.model_dump(
        mode="json", exclude={"test_fingerprint", "code_version", "network_of"}
    )
    told["params"] = {k: v for k, v in told["params"].items() if k not in SCORING}
    return told


def told_donor(config: RunConfig, donor: RunResult) -> RunConfig:
    """Give the configuration of a run that takes a network; it names one of another version.

    A network that was taken itself is named by the run that trained it.
    """
    theirs = RunConfig.model_validate(donor.record["config"])
    origin = theirs.network_of
    if origin is None and theirs.code_version != config.code_version:
        origin = str(donor.record.get("network_of", donor.record["key"]))
    return config.model_copy(update={"network_of": origin})


def take_network(
    detector: "System[Any]",
    config: RunConfig,
    rows: Rows,
    donor: RunResult,
    *,
    progress: "Progress | None" = None,
) -> "System[Any]":
    """Give a detector with the network of a finished run and a back-end of its own.

    Parameters
    ----------
    detector
        Of the run to do; it gives the parameters.
    config
        Configuration of the run to do.
    rows
        Normal training clips, to fit the back-end on.
    donor
        Finished run whose network is taken.
    progress
        Told how far the work is.

    Raises
    ------
    RunError
        If the donor was trained in another way.
    """
    from asdlib.method.contrastive import Contrastive

    theirs = RunConfig.model_validate(donor.record["config"])
    mine, other = trained(config), trained(theirs)
    differ = sorted(key for key in mine if mine[key] != other[key])
    if not isinstance(detector, Contrastive) or differ:
        what = f"another {', '.join(differ)}" if differ else f"the system '{detector.name}'"
        raise RunError(
            f"the network of '{donor.path.name}' cannot be taken: {what}; only contrastive runs "
            f"that differ in {', '.join(SCORING)} or in the test clips share a network"
        )
    taken = Contrastive.load(donor.path / "model")
    taken.params = detector.params
    taken.history_ = donor.history
    return taken.fit_backend(rows, progress=progress)
