"""Folders to download: packed by tasks, asked for over HTTP."""
