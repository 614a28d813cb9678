"""The formula language: read, computed with, multiplied out, shown."""
