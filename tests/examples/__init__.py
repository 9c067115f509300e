"""The programs in ``examples`` are run as a user runs them."""
