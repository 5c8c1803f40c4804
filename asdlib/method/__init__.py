"""The method: two augmented views, contrastive training, and a distance as anomaly score.

``augment`` makes the views (``mixing``, ``resize`` hold its arithmetic), ``encoders`` and
``losses`` what is trained, ``training`` the loop, ``backends`` the way from embeddings to scores,
and ``contrastive`` is the whole system.
"""
