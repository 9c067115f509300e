"""Attacks on the whole system, each with a seed, all judged."""
