"""What every test stands on: checked shapes, one thread a worker, and the models that tests share."""

import os
import signal

from tests.checked import install

# Workers that share the cores are slowed down by each other's threads. Must stand before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background lets them ignore Ctrl-C, and so the commands that tests send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

install()  # must stand before unweave is imported

# ruff: noqa: E402
from collections.abc import Iterator
from pathlib import Path

import pytest

import unweave as uw

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def no_room() -> Iterator[None]:
    """A process that may write no file of more than 100 bytes: as on a full disk, writing fails midway."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Reference prompts and trained models that are not part of the repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the reference data are not in {folder.parent.name}/{folder.name} beside the repository")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> "uw.Model":
    """SmolLM2-135M in float32; fetched on first use. Tests that ask for it carry `@pytest.mark.real`."""
    return uw.load_model("smollm2-135m")
