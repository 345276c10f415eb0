"""The texts of notices: templates, and their rendering for each channel. `python -m notices` shows all of them."""
