"""The same model at other sizes, observed."""
