"""Comparisons of two recordings, or of what was found in two: `neuroprobe.compare`."""
