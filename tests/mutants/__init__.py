"""Mutants: each guard of the product is removed in turn, and a test must notice."""
