"""What the machine can do: its matrix product rate, and the memory that a piece of work takes beyond what was there."""

import ctypes
import gc
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch


@dataclass
class Peak:
    """Bytes beyond those in use at the start; filled in while the work runs."""

    bytes: int = 0


def product_rate(size: int = 4096, repeats: int = 5) -> float:
    """Operations a second of one large float32 matrix product on all threads (best of `repeats`).

    A product of `size` by `size` matrices counts 2·size³ operations.
    """
    left, right, out = torch.randn(size, size), torch.randn(size, size), torch.empty(size, size)
    torch.mm(left, right, out=out)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(left, right, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


@contextmanager
def peak_memory(every: float = 0.005) -> Iterator[Peak]:
    """Watch the process's resident memory from a thread while the body runs."""
    _give_back()
    process = psutil.Process()
    before = process.memory_info().rss
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        while not done.wait(every):
            peak.bytes = max(peak.bytes, process.memory_info().rss - before)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def describe() -> dict[str, str | int]:
    """Processor, threads and versions, as they stand above the table."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _give_back() -> None:
    """Return freed memory to the system: what the C library keeps for later would hide the next peak."""
    gc.collect()
    if platform.system() == "Linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
