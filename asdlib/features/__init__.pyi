from .build import build_store as build_store
from .front_end import PRESETS as PRESETS, FrontEnd as FrontEnd
from .logmel import LogMel as LogMel, translate_store as translate_store
from .store import (
    FeatureStore as FeatureStore,
    Rows as Rows,
    merge_stores as merge_stores,
    subset_store as subset_store,
    write_store as write_store,
)
