"""What every worker process does."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, however it went.

    A parent that was killed cannot end its workers; they would finish what they do and then wait
    for ever. What they were writing has no final name yet, as with any kill.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
