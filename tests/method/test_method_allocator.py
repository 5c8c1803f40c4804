"""Freed memory: kept during a training, given back after it."""

import subprocess
import sys

import pytest

SCRIPT = """
import torch
from asdlib.method.allocator import give_back_memory, keep_freed_memory

def held():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("RssAnon"))

assert keep_freed_memory()
before = held()

class Cycle:
    def __init__(self):
        self.me, self.memory = self, [torch.ones(1_000_000) for _ in range(100)]

Cycle()
kept = held()
give_back_memory()
print(before, kept, held())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_what_a_training_left_behind_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    before, kept, after = map(int, done.stdout.split())
    assert kept > before + 300
    assert after < before + 50
