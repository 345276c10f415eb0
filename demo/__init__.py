"""A demonstration: people who sign up and list properties through the public API."""
