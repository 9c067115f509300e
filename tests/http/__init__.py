"""Tests of what a process answers over HTTP."""
