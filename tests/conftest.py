"""For all rooms."""

import os
import signal
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, settings

# A shell starts its background jobs deaf to Ctrl-C, and their children inherit that; the tests of
# Ctrl-C need processes that hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.default_int_handler)

# An example may take as long as a slow machine needs; files may be the same in all examples.
patient = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("patient", deadline=None, suppress_health_check=patient)
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Try ``ASDLIB_FUZZ`` times as many examples of every property."""
    times = int(os.environ.get("ASDLIB_FUZZ", "1"))
    for test in {getattr(item, "obj", None) for item in items}:
        usual = getattr(test, "_hypothesis_internal_use_settings", None)
        if usual is not None and times > 1:
            test._hypothesis_internal_use_settings = settings(
                usual, max_examples=times * usual.max_examples
            )
