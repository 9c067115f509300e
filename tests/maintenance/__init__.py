"""Tests of a store's maintenance by one manager of many."""
