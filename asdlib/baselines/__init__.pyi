from .autoencoder import (
    Autoencoder as Autoencoder,
    Autoencoder2022 as Autoencoder2022,
    AutoencoderParams as AutoencoderParams,
    gamma_threshold as gamma_threshold,
)
from .mobilenet import MobileNetV2 as MobileNetV2, MobileNetV2Params as MobileNetV2Params
from .statistics import (
    TimeStatistics as TimeStatistics,
    TimeStatisticsParams as TimeStatisticsParams,
)
