"""The engine on Temporal, with a real server."""
