"""The stores of tapescope. The platform finds them by URL scheme, through entry points."""
