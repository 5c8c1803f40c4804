from .corpus import (
    LAYOUT_MACHINES as LAYOUT_MACHINES,
    SPECS as SPECS,
    TRUTH_COLUMNS as TRUTH_COLUMNS,
    SyntheticSpec as SyntheticSpec,
    plan_corpus as plan_corpus,
    read_truth as read_truth,
    render_clip as render_clip,
    write_corpus as write_corpus,
)
from .faults import (
    BANDS as BANDS,
    CAUSES as CAUSES,
)
from .machines import MACHINES as MACHINES
