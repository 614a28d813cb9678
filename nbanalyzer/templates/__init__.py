"""What a model is made of: its config, the templates that say what it costs, and the catalogue of shipped ones."""
