"""Parameters of notebooks, refused if they cannot be meant."""

import pytest

from asdlib.errors import ConfigError
from asdlib.study.parameters import check_number


@pytest.mark.parametrize("value", [-1, 1.5, True, "3", None, float("nan")])
def test_wrong_parameters_are_refused_with_what_is_allowed(value: object) -> None:
    with pytest.raises(ConfigError, match="expected a whole number from 0 on; give another seed"):
        check_number("seed", value, 0, whole=True)


def test_right_parameters_pass() -> None:
    check_number("seed", 0, 0, whole=True)
    check_number("cutoff_hz", 2000.0, 0, 7000)
    with pytest.raises(ConfigError, match="from 0 to 7000"):
        check_number("cutoff_hz", 8000, 0, 7000)
