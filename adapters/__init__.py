"""How we reach things: one file for each system outside the process."""
