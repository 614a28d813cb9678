"""Model templates: configs, module and model templates, their expansion, and the catalogue of shipped ones."""
