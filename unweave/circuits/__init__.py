"""Circuits: the value, the ablation of everything else, and the three tests of what is left."""
