"""What readers see: one file for each read model, with the way in (apply) and the way out (the query)."""
