"""Baselines: the official DCASE ones as published, and the statistical reference.

- `TimeStatistics` ("statistics"): Mahalanobis distance of time statistics, per section.
- `Autoencoder` ("autoencoder"): DCASE 2020, reconstruction error, per machine type.
- `Autoencoder2022` ("autoencoder2022"): the same network with the threshold of 2022.
- `MobileNetV2` ("mobilenetv2"): DCASE 2022, classification of sections, per machine type.

All are `asdlib.system.System`; `windows` holds what the three networks share, `gamma_threshold`
turns scores of normal clips into a threshold.
"""

from asdlib.baselines.autoencoder import (
    Autoencoder,
    Autoencoder2022,
    AutoencoderParams,
    gamma_threshold,
)
from asdlib.baselines.mobilenet import MobileNetV2, MobileNetV2Params
from asdlib.baselines.statistics import TimeStatistics, TimeStatisticsParams

__all__ = [
    "Autoencoder",
    "Autoencoder2022",
    "AutoencoderParams",
    "MobileNetV2",
    "MobileNetV2Params",
    "TimeStatistics",
    "TimeStatisticsParams",
    "gamma_threshold",
]
