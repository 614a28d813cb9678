"""The formula language: parsing, evaluation, multiplying out, notation."""
