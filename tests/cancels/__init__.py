"""A disturbance at every step of every task."""
