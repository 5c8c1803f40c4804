"""For all rooms."""

import signal
from contextlib import suppress

# A shell starts its background jobs deaf to Ctrl-C, and their children inherit that; the tests of
# Ctrl-C need processes that hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.default_int_handler)
