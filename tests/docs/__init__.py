"""Tests of the pages: programs that run, references that are up to date."""
