"""Files that appear whole or not at all, whatever comes between: a full disk, an error, Ctrl-C."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unweave.errors import InputError


@contextmanager
def placed(target: Path) -> Iterator[Path]:
    """A file beside `target` to write to; it takes target's place when the block ends well, and is removed otherwise.

    Raises:
        InputError: target cannot be written, here or in the block.
    """
    spare = None
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        spare = Path(name)
        os.close(handle)
        yield spare
        spare.chmod(0o644)
        spare.replace(target)
    except OSError as error:
        why = error.strerror or str(error) or "the disk refused"
        raise InputError(
            f"path: cannot write {target} ({why}); name a place where you may write and where there is room"
        ) from error
    finally:
        if spare is not None:
            spare.unlink(missing_ok=True)
