"""Tests of the store port: group commit, and what is logged of late events."""
