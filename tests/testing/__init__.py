"""Tests of ``tapescope.testing``: the history checker and the memory store."""
