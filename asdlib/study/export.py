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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asdlib import __version__
from asdlib.baselines import Autoencoder, TimeStatistics
from asdlib.baselines.statistics import symmetric_root
from asdlib.errors import ConfigError
from asdlib.features.logmel import LogMel
from asdlib.files import whole_file
from asdlib.method.backends import LevelSum, level_backend
from asdlib.method.contrastive import Contrastive
from asdlib.method.distances import (
    Backend,
    ClassMeanDistance,
    KNearestNeighbours,
    LocalDensityKNN,
    Mahalanobis,
    VarianceMinimised,
)
from asdlib.study.result import RunResult
from asdlib.study.score import Model, load_model
from asdlib.system import System, with_prefix

_SECONDS = 10
"""Length of the silence with which the graph is recorded; any length can be scored."""


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
    run
        The run, see `asdlib.study.load_run`.
    out
        File to write.
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
    config, assembled = run.record.config, Detector(model, kept, limits)
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
    with whole_file(out) as partial, _quiet():
        _write(assembled, metadata, partial, int8=int8)
    return metadata


class Detector(nn.Module):
    """A fitted system from the waveform to the decision, in torch; see `export`."""

    limits: Tensor

    def __init__(self, model: Model, sections: Sequence[str], limits: Sequence[float]) -> None:
        super().__init__()
        self.log_mel = LogMel(model.front_end)
        self.score = _scorer(model.system, sections)
        self.register_buffer("limits", torch.tensor(limits, dtype=torch.float32))
        self.eval()

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """Score waveforms (B, S): scores and decisions (B, C), log-mels (B, F, T), and parts."""
        log_mel = self.log_mel(waveform).half().float()
        score, *parts = self.score(log_mel)
        return score, score > self.limits, log_mel, *parts


def _scorer(system: System[Any] | None, sections: Sequence[str]) -> nn.Module:
    """Return what leads from log-mels (B, F, T) to a tuple: scores (B, C), and perhaps parts."""
    if isinstance(system, TimeStatistics) and "quantiles" not in system.params.statistics:
        return _Statistics(system, sections)
    if isinstance(system, Autoencoder):
        return _Windows(system, sections)
    if isinstance(system, Contrastive) and system.params.segment == "clip":
        return _Embedded(system, sections)
    raise ConfigError(
        f"system '{system.name if system else ''}' with these parameters cannot be exported; "
        "expected statistics (without quantiles), autoencoder, autoencoder2022 or contrastive "
        "(segment=clip)"
    )


class _Statistics(nn.Module):
    """The statistical reference, and its parts as in `TimeStatistics.contributions`."""

    mean: Tensor
    root: Tensor

    def __init__(self, system: TimeStatistics, sections: Sequence[str]) -> None:
        super().__init__()
        at = [system.sections_.index(section) for section in sections]
        self.with_deviation = system.params.statistics != "mean"
        self.register_buffer("mean", _single(system.mean_[at, :, None]))
        self.register_buffer("root", _single(symmetric_root(system.precision_[at])))

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        frames = log_mel
        if self.with_deviation:
            spread = log_mel.std(dim=2, correction=0, keepdim=True).clamp(min=1e-30)
            from_mean = log_mel - log_mel.mean(dim=2, keepdim=True)
            frames = torch.cat([log_mel, from_mean.square() / spread], dim=1)
        white = self.root @ (frames[:, None] - self.mean)  # (B, C, D, T)
        total = white.mean(dim=3, keepdim=True)
        parts = torch.unflatten(total * white / log_mel.shape[2], 2, (-1, log_mel.shape[1]))
        return total.square().sum(dim=(2, 3)).sqrt(), parts.sum(dim=2)


class _Windows(nn.Module):
    """The autoencoders: one network for each machine, on stacked frames."""

    def __init__(self, system: Autoencoder, sections: Sequence[str]) -> None:
        super().__init__()
        self.window_scores, self.width = system.window_scores, system.params.n_frames
        machines = [section.split("/")[0] for section in sections]
        names = sorted(set(machines))
        self.networks = nn.ModuleList(system.networks_[name] for name in names)
        self.columns = [names.index(machine) for machine in machines]

    def forward(self, log_mel: Tensor) -> tuple[Tensor]:
        windows = log_mel.unfold(2, self.width, 1).permute(0, 2, 3, 1).flatten(0, 1)
        section = torch.zeros(0)  # an autoencoder sees none
        scores = [
            self.window_scores(network, windows, section).reshape(log_mel.shape[0], -1).mean(dim=1)
            for network in self.networks
        ]
        return (torch.stack([scores[column] for column in self.columns], dim=1),)


class _Embedded(nn.Module):
    """Encoder, perhaps a public one, and the back-end of each section."""

    def __init__(self, system: Contrastive, sections: Sequence[str]) -> None:
        super().__init__()
        self.normalise, self.network = system.augmentation_, system.network_.float()
        self.levels = system.levels_
        backend = system.backend_
        self.distances = nn.ModuleList(
            _distance(backend, backend.models_[section]) for section in sections
        )

    def forward(self, log_mel: Tensor) -> tuple[Tensor]:
        x = self.network.embed(self.normalise.pre_normalise(log_mel), self.levels)
        return (torch.stack([distance(x) for distance in self.distances], dim=1),)


def _distance(backend: Backend, model: dict[str, np.ndarray]) -> nn.Module:
    """Return the back-end of one section, from embeddings (B, D) to scores (B,)."""
    if isinstance(backend, LevelSum):
        return _LevelSum(backend, model)
    if isinstance(backend, Mahalanobis):
        return _Mahalanobis(model)
    with_more = isinstance(backend, LocalDensityKNN | VarianceMinimised)
    if isinstance(backend, KNearestNeighbours) and not with_more:
        return _Nearest(model["embeddings"], backend.metric, backend.k)
    if isinstance(backend, ClassMeanDistance):
        return _Nearest(model["mean"][None], backend.metric, 1)
    raise ConfigError(
        f"back-end '{backend.name}' cannot be exported; expected level_sum, a Mahalanobis "
        "distance, knn or class_mean"
    )


class _Mahalanobis(nn.Module):
    """Distance to the nearest of one or several means."""

    mean: Tensor
    whitening: Tensor

    def __init__(self, model: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.register_buffer("mean", _single(model["mean"]))
        self.register_buffer("whitening", _single(model["whitening"]))

    def forward(self, x: Tensor) -> Tensor:
        white = (x - self.mean[..., None, :]) @ self.whitening
        distance = white.square().sum(dim=-1).sqrt()
        return distance if distance.dim() == 1 else distance.amin(dim=0)


class _Nearest(nn.Module):
    """Mean distance to the k nearest of some embeddings (M, D)."""

    embeddings: Tensor

    def __init__(self, embeddings: np.ndarray, metric: str, k: int) -> None:
        super().__init__()
        self.metric, self.k = metric, k
        if metric == "cosine":
            length = np.linalg.norm(embeddings, axis=1, keepdims=True)
            embeddings = embeddings / np.where(length > 0, length, 1)
        self.register_buffer("embeddings", _single(embeddings))

    def forward(self, x: Tensor) -> Tensor:
        if self.metric == "cosine":
            distances = (1 - nn.functional.normalize(x, dim=1) @ self.embeddings.T).clamp(0, 2)
        else:
            distances = (x[:, None] - self.embeddings).square().sum(dim=2).sqrt()
        return distances.topk(self.k, dim=1, largest=False).values.mean(dim=1)


class _LevelSum(nn.Module):
    """Weighted sum over levels of standardised logarithms of distances."""

    def __init__(self, backend: LevelSum, model: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.sizes = list(backend.sizes)
        *self.weights, self.constant = backend.weights_of(model).tolist()
        self.scales = [model[f"{level}.scale"].tolist() for level in backend.levels]
        self.parts = nn.ModuleList(
            _distance(level_backend(level), with_prefix(model, f"{level}."))
            for level in backend.levels
        )

    def forward(self, x: Tensor) -> Tensor:
        levels = torch.split(x, self.sizes, dim=1) if self.sizes else (x,)
        total = torch.full_like(x[:, 0], self.constant)
        for weight, scale, part, level in zip(
            self.weights, self.scales, self.parts, levels, strict=True
        ):
            floor, mean, deviation = scale
            total = total + weight * (part(level).clamp(min=floor).log() - mean) / deviation
        return total


def _single(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).float()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what exporters say to those who work on them."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _write(detector: Detector, metadata: dict[str, Any], path: Path, *, int8: bool) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch exports by it)
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise ConfigError(
            f"export needs {error.name}, not installed here; install asdlib with the extra 'export'"
        ) from None
    silence = torch.zeros(2, _SECONDS * detector.log_mel.front_end.sample_rate)
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        detector,
        (silence,),
        dynamo=True,
        verbose=False,
        input_names=["waveform"],
        output_names=["score", "anomalous", "log_mel", "parts"][
            : 3 + isinstance(detector.score, _Statistics)
        ],
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
