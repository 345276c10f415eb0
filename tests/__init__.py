"""Tests, by the rooms of the house."""
