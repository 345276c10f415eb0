"""What happens, in order: one command, one file, one word."""
