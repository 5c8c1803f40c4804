"""Baselines: the official DCASE ones as published, and the statistical reference.

- `TimeStatistics` ("statistics"): Mahalanobis distance of time statistics, per section.
- `Autoencoder` ("autoencoder"): DCASE 2020, reconstruction error, per machine type.
- `Autoencoder2022` ("autoencoder2022"): the same network with the threshold of 2022.
- `MobileNetV2` ("mobilenetv2"): DCASE 2022, classification of sections, per machine type.

All are `asdlib.system.System`; `windows` holds what the three networks share, `gamma_threshold`
turns scores of normal clips into a threshold.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
