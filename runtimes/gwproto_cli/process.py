"""What a serving process asks of its system before it begins."""

import ctypes
import resource

DESCRIPTORS = 65536  # a stream takes two

# malloc.h of the GNU C library
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
LARGE = 16 * 1024 * 1024  # bytes of a block from which on it is the system's again as soon as it is freed
KEPT = 32 * 1024 * 1024  # bytes of freed memory that are kept for the next request


def raise_descriptors() -> None:
    """Allow this process, and those it starts, as many files and sockets as it may allow itself.

    The usual soft limit, 1024, is for programs that use ``select``, and would end at five hundred streams.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS has a lower limit beside it
        pass


def keep_memory() -> None:
    """Have long bodies use memory that is there already.

    Where the C library is GNU's, which else gives large blocks back to the system, to have them cleared page by page
    for the next request: a third to a half of what a prompt of 1 MiB costs.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE)
        mallopt(_M_TRIM_THRESHOLD, KEPT)
