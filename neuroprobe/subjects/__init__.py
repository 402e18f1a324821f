"""Networks as subjects: load, check, name layers; the embedded network; random-weight twins."""
