"""Tests of the client of a server's tasks."""
