"""Tests of the real stores: what both do, and what one does by itself."""
