"""Call what a student wrote; everything unexpected is one line that helps."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from asdlib.errors import AsdError

Namespace = Mapping[str, Any]


class WrongAnswerError(AsdError):
    """An answer is not right; the message helps."""


def answer(namespace: Namespace, name: str) -> Callable[..., Any]:
    """Give the function that the student wrote."""
    found = namespace.get(name)
    if not callable(found):
        raise WrongAnswerError(f"there is no function `{name}` yet; define it in the cell above")
    return found  # type: ignore[no-any-return]


def call_answer(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it; whatever it raises is a wrong answer."""
    try:
        return function(*arguments)
    except NotImplementedError:
        raise WrongAnswerError(f"`{function.__name__}` is not written yet") from None
    except Exception as error:
        told = " ".join(str(error).split())
        raise WrongAnswerError(
            f"`{function.__name__}` stopped with {type(error).__name__}: {told}"
        ) from None


def number_of(function: Callable[..., Any], *arguments: Any, name: str = "") -> float:
    """Call it and expect one finite number."""
    name = name or function.__name__
    value = call_answer(function, *arguments)
    if value is None:
        raise WrongAnswerError(f"`{name}` gives nothing; `return` the number or set it")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise WrongAnswerError(
            f"`{name}` gave {type(value).__name__}, expected one number"
        ) from None
    if not np.isfinite(number):
        raise WrongAnswerError(f"`{name}` gave {number}, expected a finite number")
    return number


def array_of(function: Callable[..., Any], shape: tuple[int, ...], *arguments: Any) -> Any:
    """Call it and expect numbers of a shape."""
    value = np.asarray(call_answer(function, *arguments))
    if value.shape != shape or not np.issubdtype(value.dtype, np.number):
        raise WrongAnswerError(
            f"`{function.__name__}` gave shape {value.shape} of {value.dtype}, "
            f"expected numbers of shape {shape}"
        )
    return value
