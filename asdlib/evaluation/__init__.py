"""Evaluation: anomaly scores in, metrics, tables and their uncertainty out.

In the order of use: ``scores`` reads, writes and labels official score files, puts their figures
into one :class:`Evaluation` (:func:`evaluate`, :func:`evaluate_folder`), ``metrics`` computes
figures of arrays and of each section, ``intervals`` estimates uncertainty (over clips and seeds,
alone and paired). Figures are fractions from 0 to 1. ``published`` holds what others have printed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
