"""The contract of a store: one suite over every one, asking what it can do, never its name."""
