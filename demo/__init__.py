"""A demonstration: registers users and lists properties through the public API."""
