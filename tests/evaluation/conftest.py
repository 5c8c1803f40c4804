"""Golden score folders, evaluated once."""

from pathlib import Path

import pytest

from asdlib.evaluation import evaluate_folder

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"


@pytest.fixture(scope="session")
def golden():
    """Evaluations by folder; their tables are shared, so a test changes copies only."""
    return {
        "dcase2020": evaluate_folder(GOLDEN / "dcase2020", 2020),
        "dcase2022": evaluate_folder(GOLDEN / "dcase2022", 2022),
        "dcase2022_blind": evaluate_folder(
            GOLDEN / "dcase2022_blind", 2022, GOLDEN / "dcase2022_blind_ground_truth"
        ),
    }
