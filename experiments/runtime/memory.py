"""Keeps the C library from giving freed memory back to the system."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> None:
    """Makes glibc reuse its memory; elsewhere does nothing.

    XLA allocates the temporaries of a program at every call. By default glibc returns blocks of
    that size to the kernel, which then hands out, and zeroes, tens of thousands of pages at every
    training step: a fifth of the step on a CPU.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_ARENA_MAX, 1)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never
    libc.mallopt(_M_TOP_PAD, 2**26)
