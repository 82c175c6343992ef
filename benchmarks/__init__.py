"""How fast unweave is, side by side with TransformerLens on the same prompts: `python -m benchmarks`. How often its
intervals hold the truth: `python -m benchmarks.coverage`.

Nothing here is timed in tests, and nothing in `unweave` imports it. The extra `bench` installs the other side.
"""

import os

# The other side shows a progress bar for every loop, which would cut the log to pieces. tqdm reads this once, when it
# is first imported, so it has to be set before anything else is.
os.environ.setdefault("TQDM_DISABLE", "1")
