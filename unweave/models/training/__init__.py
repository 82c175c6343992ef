"""Training of small models: what is learned from, how, the loop, and what it leaves in a folder."""
