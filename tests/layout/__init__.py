"""Tests of the floor plan: source roots, rooms, and what an import costs."""
