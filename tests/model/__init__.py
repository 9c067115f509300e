"""Tests of the model and the errors: the words, the values, and their JSON shapes."""
