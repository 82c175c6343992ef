"""The naive oracle: the truth that sweeps are tested against.

It patches the reference library's own models (transformers) with PyTorch hooks, in float64, one whole forward pass a
patch. It shares no code with unweave, and is meant to be obviously right, not fast. `both` puts the two side by side.
"""
