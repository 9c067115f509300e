"""What is proven of a model of tapescope, in all its states."""
