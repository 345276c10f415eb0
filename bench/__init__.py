"""What we measure, each figure beside its baseline in the same run."""
