"""The telemetry contract, judged by what a real SDK receives."""
