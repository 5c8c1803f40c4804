"""Parameters of notebooks, refused in the first cell if they cannot be meant."""

from asdlib.errors import ConfigError


def check_number(
    name: str,
    value: object,
    low: float,
    high: float | None = None,
    *,
    whole: bool = False,
) -> None:
    """Refuse what is no number of a range.

    Parameters
    ----------
    name
        Name of the parameter.
    value
        What was given for it.
    low, high
        Smallest and largest value allowed; no largest one if `high` is None.
    whole
        Whether it must be a whole number.

    Raises
    ------
    ConfigError
        Naming the value and the values allowed.
    """
    kind = int if whole else (int, float)
    fits = isinstance(value, kind) and not isinstance(value, bool)
    if fits and low <= value and (high is None or value <= high):  # type: ignore[operator]
        return
    noun = "a whole number" if whole else "a number"
    allowed = f"from {low:g} on" if high is None else f"from {low:g} to {high:g}"
    raise ConfigError(f"{name} is {value!r}, expected {noun} {allowed}; give another {name}")
