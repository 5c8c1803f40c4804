__version__: str

from .baselines import (
    Autoencoder as Autoencoder,
    MobileNetV2 as MobileNetV2,
    TimeStatistics as TimeStatistics,
)
from .errors import AsdError as AsdError
from .evaluation import (
    auc as auc,
    evaluate as evaluate,
    evaluate_folder as evaluate_folder,
    pauc as pauc,
)
from .features import FeatureStore as FeatureStore, FrontEnd as FrontEnd, build_store as build_store
from .method import Contrastive as Contrastive, SpectrumAugmentation as SpectrumAugmentation
from .study import load_run as load_run, run as run
