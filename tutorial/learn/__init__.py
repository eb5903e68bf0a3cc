"""The machinery of the tutorial: `metcd learn`."""
