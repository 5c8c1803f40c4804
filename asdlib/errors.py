"""Errors that a user can act on.

Every message is one line that names the value, what was expected and the way out.
The command line prints it and exits with a code other than zero.
"""


def shorten(text: str, most: int) -> str:
    """Cut the middle out of a text that is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most // 2 - 2]} … {text[2 - most // 2 :]}"


def reason_of(error: Exception) -> str:
    """Return in one line what an error says: of a system its text, of pydantic place and fault."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if hasattr(error, "errors"):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        text = first["msg"].removeprefix("Value error, ")
        return f"{place}: {text}" if place else text
    text = str(error).strip().split("\n")[0] or type(error).__name__
    return f"it lacks {text}" if isinstance(error, KeyError) else text


class AsdError(Exception):
    """Base of all errors that asdlib raises on purpose."""


class ConfigError(AsdError):
    """A parameter is unknown or its value is not allowed."""


class DataError(AsdError):
    """A file, a file name or a folder of recordings is not what it should be."""


class DownloadError(AsdError):
    """A file could not be fetched, verified or unpacked."""


class StoreError(AsdError):
    """A feature store is missing, damaged or built with another front end."""


class ScoreError(AsdError):
    """A score file or a set of scores cannot be evaluated."""


class RunError(AsdError):
    """A system cannot be trained or cannot score the given clips."""
