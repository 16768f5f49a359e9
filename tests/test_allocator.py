"""Memory given back is kept: a big block used again costs no page fault; of the heap's free end a bound is kept."""

import subprocess
import sys

import pytest

from advprune.runtime import speed

BIG = 64 << 20  # above glibc's largest threshold of 32 MiB, from which on blocks are the system's
USED_AGAIN = """
import resource, sys
from advprune.runtime import speed
if sys.argv[1] == "keep":
    assert speed.keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
b"x" * int(sys.argv[2])
before = faults()
for _ in range(4):
    b"x" * int(sys.argv[2])
print(faults() - before)
"""
GIVEN_BACK = """
import resource
from advprune.runtime import speed
assert speed.keep_freed_memory()
for block in [bytearray(64 << 20) for _ in range(20)]:  # nothing is made after them, so they are the end of the heap
    pass
del block
after = int(open("/proc/self/statm").read().split()[1]) * 4096
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, after, speed.KEPT)
"""
glibc = pytest.mark.skipif(not speed.keep_freed_memory(), reason="the C library is not glibc")


def run(code: str, *words: str) -> list[int]:
    out = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    ).stdout
    return [int(word) for word in out.split()]


@glibc
def test_a_block_used_again_has_its_pages_already() -> None:
    (kept,) = run(USED_AGAIN, "keep", str(BIG))
    (system,) = run(USED_AGAIN, "system", str(BIG))
    assert kept < 20 < system  # 65,536 pages of 4 KiB, or 128 where the system gives huge ones


@glibc
def test_of_the_free_end_of_the_heap_no_more_than_the_bound_is_kept() -> None:
    most, after, bound = run(GIVEN_BACK)
    assert most > 20 * BIG
    assert after < bound
