"""Sub-commands of `mulfree`, one a file."""
