"""Read models: one module for each, with the projection that writes it and the query that reads it."""
