"""The stress harness: real runs, cancels and shutdowns at seeded moments, every one judged."""
