"""Tests of the demo, without the command line."""
