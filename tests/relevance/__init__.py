"""How well a search ranks: made listings, queries as people type them, and the grades of what they should find."""
