"""Tests of the manager and of the runs it keeps."""
