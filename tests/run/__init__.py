"""Tests of one run: its reports, its end, its retries, and a store that is away."""
