"""Read models: one file for each, with the projection that writes it and the query that reads it."""
