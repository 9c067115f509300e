"""Tests of the drills, without the command line."""
