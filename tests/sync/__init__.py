"""The sync door."""
