"""A circuit made visible: its drawing, its tables, and the pictures of its three tests."""
