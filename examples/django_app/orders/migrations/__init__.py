"""The tables of the project; those of the tasks are made by tapescope."""
