"""Tests of schedules: their times, the loop that fires, and a fleet that does."""
