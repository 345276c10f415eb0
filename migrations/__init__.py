"""Database migrations, forward only."""
