"""A finished run as one ONNX file: a waveform goes in, a score and a decision come out.

The file holds everything between: the front end, the network, the reference statistics and the
threshold of each section. It needs onnxruntime and nothing of this library, on a small computer or
in a browser. There is one column for each section, so that the caller picks the section, or the one
that fits best where it is not known; a file for one specimen names only that (`sections`).

Log-mels are rounded to half precision, as in the feature store that the system was trained on, and
all else is single precision, where the library's back-ends compute in double. Scores equal those of
the library within 1e-3 of a score or, for sums over levels, whose normal clips lie around 0, of
their standard deviation.

Shapes: B batch, S samples, F mel bins, T frames, C sections, D size of an embedding.
"""

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asdlib import __version__
from asdlib.baselines import Autoencoder, TimeStatistics
from asdlib.errors import ConfigError
from asdlib.features.logmel import LogMel
from asdlib.files import whole_file
from asdlib.method.backends import (
    Backend,
    KNearestNeighbours,
    LevelSum,
    Mahalanobis,
    level_backend,
)
from asdlib.method.contrastive import Contrastive
from asdlib.study.result import RunResult
from asdlib.study.score import Model, load_model
from asdlib.system import System, with_prefix

Scorer = Callable[[Tensor], tuple[Tensor, ...]]
"""Turns log-mels (B, F, T) into scores (B, C), and perhaps parts."""


def export(
    run: RunResult,
    out: str | Path,
    *,
    train: str | Path | None = None,
    quantile: float | None = None,
    sections: Sequence[str] = (),
    int8: bool = False,
) -> dict[str, Any]:
    """Write a finished run as one ONNX file, and return the metadata that is in it.

    Input is ``waveform`` (B, S), float32, full scale 1.0, at the sample rate of the front end, of
    any length that has a frame. Outputs are ``score`` (B, C), higher is more anomalous,
    ``anomalous`` (B, C), whether it is above the threshold, and ``log_mel`` (B, F, T). The
    statistical reference has a fourth, ``parts`` (B, C, F, T): what each mel bin of each frame adds
    to the square of the score. The metadata are JSON: ``sections``, ``thresholds`` and ``held_out``
    scores of each, ``front_end``, ``mel_frequencies`` (Hz), ``n_frames`` (of a training clip),
    ``spectra`` (means of normal clips), ``system``, ``params`` and ``origin``.

    Parameters
    ----------
    train, quantile
        See `asdlib.study.score.load_model`.
    sections
        Those to keep, "machine/section"; by default all.
    int8
        Whether weights of the network become 8-bit integers, and its activations while it computes:
        smaller, and less exact, so that thresholds may not hold. Front end and back-end stay.

    Raises
    ------
    RunError, ConfigError
        If `load_model` refuses the run, `out` is not named ``*.onnx``, a section is not known, or
        the system or its back-end cannot be exported.
    """
    if Path(out).suffix != ".onnx":
        raise ConfigError(f"'{out}' does not end in .onnx, expected a file such as model.onnx")
    model = load_model(run.path, train=train, quantile=quantile)
    kept = [model.find_section(name) for name in sections] or model.sections
    limits = [model.thresholds[section] for section in kept]
    config = run.record.config
    metadata = {
        "sections": kept,
        "thresholds": limits,
        "quantile": model.quantile,
        "held_out": {key: model.normal[key].tolist() for key in kept},
        "front_end": model.front_end.describe(),
        "n_frames": model.n_frames,
        "mel_frequencies": np.round(model.front_end.mel_frequencies(), 1).tolist(),
        "spectra": {key: model.spectra[key].round(3).tolist() for key in kept if model.divide},
        "system": config.system,
        "params": config.params,
        "precision": "int8" if int8 else "float32",
        "origin": {
            "run": run.record.key,
            "seed": config.seed,
            "train": config.train_fingerprint,
            "code_version": config.code_version,
            "asdlib": __version__,
        },
    }
    logging.disable(logging.WARNING)  # what exporters say to those who work on them
    try:
        with whole_file(out) as partial, warnings.catch_warnings(action="ignore"):
            _write(Detector(model, kept, limits), metadata, partial, int8=int8)
    finally:
        logging.disable(logging.NOTSET)
    return metadata


class Detector(nn.Module):
    """A fitted system from the waveform to the decision, in torch; see `export`."""

    def __init__(self, model: Model, sections: Sequence[str], limits: Sequence[float]) -> None:
        super().__init__()
        self.log_mel = LogMel(model.front_end)
        self.score = _scorer(model.system, sections)
        self.limits = torch.tensor(limits, dtype=torch.float32)

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """Score waveforms (B, S): scores and decisions (B, C), log-mels (B, F, T), and parts."""
        log_mel = self.log_mel(waveform).half().float()
        score, *parts = self.score(log_mel)
        return score, score > self.limits, log_mel, *parts


def _scorer(system: System[Any] | None, sections: Sequence[str]) -> Scorer:
    if isinstance(system, TimeStatistics) and "quantiles" not in system.params.statistics:
        return system.divider(sections, torch.float32)
    if isinstance(system, Autoencoder):
        return _of_autoencoder(system, sections)
    if isinstance(system, Contrastive) and system.params.segment == "clip":
        return _of_embeddings(system, sections)
    raise ConfigError(
        f"system '{system.name if system else ''}' with these parameters cannot be exported; "
        "expected statistics (without quantiles), autoencoder, autoencoder2022 or contrastive "
        "(segment=clip)"
    )


def _of_autoencoder(system: Autoencoder, sections: Sequence[str]) -> Scorer:
    machines = [section.split("/")[0] for section in sections]
    networks = {machine: system.networks_[machine].eval() for machine in machines}

    def score(log_mel: Tensor) -> tuple[Tensor]:
        windows = log_mel.unfold(2, system.params.n_frames, 1).permute(0, 2, 3, 1).flatten(0, 1)
        section = torch.zeros(0)  # an autoencoder sees none
        found = {
            machine: system.window_scores(network, windows, section)
            .reshape(log_mel.shape[0], -1)
            .mean(dim=1)
            for machine, network in networks.items()
        }
        return (torch.stack([found[machine] for machine in machines], dim=1),)

    return score


def _of_embeddings(system: Contrastive, sections: Sequence[str]) -> Scorer:
    network, backend = system.network_.float().eval(), system.backend_
    distances = [_distance(backend, backend.models_[section]) for section in sections]

    def score(log_mel: Tensor) -> tuple[Tensor]:
        x = network.embed(system.augmentation_.pre_normalise(log_mel), system.levels_)
        return (torch.stack([distance(x) for distance in distances], dim=1),)

    return score


def _distance(backend: Backend, model: dict[str, np.ndarray]) -> Callable[[Tensor], Tensor]:
    """Return the back-end of one section, from embeddings (B, D) to scores (B,)."""
    if isinstance(backend, LevelSum):
        return _level_sum(backend, model)
    if isinstance(backend, Mahalanobis):
        means, whitening = _single(model["mean"])[..., None, :], _single(model["whitening"])
        return lambda x: ((x - means) @ whitening).norm(dim=-1).reshape(-1, x.shape[0]).amin(dim=0)
    if isinstance(backend, KNearestNeighbours) and {*model} <= {"embeddings", "scale"}:
        return _nearest(_single(model["embeddings"]), backend)
    raise ConfigError(
        f"back-end '{backend.name}' cannot be exported; expected level_sum, a Mahalanobis "
        "distance, knn or balanced_knn"
    )


def _nearest(normal: Tensor, backend: KNearestNeighbours) -> Callable[[Tensor], Tensor]:
    unit = nn.functional.normalize

    def score(x: Tensor) -> Tensor:
        if backend.metric == "cosine":
            distances = (1 - unit(x, dim=1) @ unit(normal, dim=1).T).clamp(0, 2)
        else:
            distances = (x[:, None] - normal).norm(dim=2)
        return distances.topk(backend.k, dim=1, largest=False).values.mean(dim=1)

    return score


def _level_sum(backend: LevelSum, model: dict[str, np.ndarray]) -> Callable[[Tensor], Tensor]:
    """Weighted sum over levels of standardised logarithms of distances."""
    *weights, constant = backend.weights_of(model).tolist()
    distances = [
        _distance(level_backend(level), with_prefix(model, f"{level}.")) for level in backend.levels
    ]
    scales = [model[f"{level}.scale"].tolist() for level in backend.levels]

    def score(x: Tensor) -> Tensor:
        levels = torch.split(x, list(backend.sizes) or x.shape[1], dim=1)
        total = torch.full_like(x[:, 0], constant)
        for weight, scale, distance, level in zip(weights, scales, distances, levels, strict=True):
            floor, mean, deviation = scale
            total = total + weight * (distance(level).clamp(min=floor).log() - mean) / deviation
        return total

    return score


def _single(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).float()


def _write(detector: Detector, metadata: dict[str, Any], path: Path, *, int8: bool) -> None:
    import onnx
    import onnxscript  # noqa: F401  (torch exports by it)
    from onnxruntime.quantization import QuantType, quantize_dynamic

    silence = torch.zeros(2, 10 * detector.log_mel.front_end.sample_rate)  # any length will do
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        detector.eval(),
        (silence,),
        dynamo=True,
        verbose=False,
        input_names=["waveform"],
        output_names=["score", "anomalous", "log_mel", *(["parts"] if metadata["spectra"] else [])],
        dynamic_shapes=({0: dynamic, 1: dynamic},),
    )
    model = program.model_proto  # type: ignore[union-attr]  # None without dynamo
    for node in model.graph.node:  # the lines of code that it came from, with their paths
        del node.metadata_props[:]
    if int8:
        nodes = model.graph.node
        # What multiplies in the front end and the back-end is a MatMul; linear layers of a network
        # are Gemm, which onnxruntime takes apart into a MatMul of another name.
        rest = [node.name for node in nodes if node.op_type == "MatMul"]
        if not any(node.op_type in ("Conv", "Gemm") for node in nodes):
            raise ConfigError(
                f"system '{metadata['system']}' has no network for int8; leave it out"
            )
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["Conv", "MatMul"],
            nodes_to_exclude=rest,
            weight_type=QuantType.QUInt8,
        )
        model = onnx.load(path)
    onnx.helper.set_model_props(model, {k: json.dumps(v) for k, v in metadata.items()})
    onnx.save_model(model, path)
