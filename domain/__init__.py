"""Business rules: commands, events, state and the pure functions between them. No I/O, no clock."""
