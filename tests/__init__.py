"""The tests. A package, so that no other project's ``tests`` can stand before this one."""
