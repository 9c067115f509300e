"""Tests of shell commands as runners."""
