"""Keep the memory that a training step frees for the next one, by the C library's own settings.

glibc hands blocks above 32 MiB back to the system as soon as they are free, and the free end of its
heap above 64 MiB. A training step allocates and frees the same big tensors again and again, and
each time the system clears their pages anew. Kept, they are there already. docs/performance.md has
what it saves, in time and in memory.
"""

import ctypes
import sys
from functools import cache

#: Of glibc's <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
#: Free bytes at the end of the heap from which on they are given back. A C int: 2 GiB are the most.
KEPT = 1 << 30


@cache
def keep() -> bool:
    """Keep up to ``KEPT`` free bytes in this process from now on, for its next big blocks.

    Only the first call does anything.

    Returns:
        Whether the C library took the settings; others than glibc have none.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL(None)
        glibc, mallopt = library.gnu_get_libc_version, library.mallopt
    except (AttributeError, OSError):  # musl has no glibc version, and an empty mallopt or none
        return False
    del glibc
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT))
