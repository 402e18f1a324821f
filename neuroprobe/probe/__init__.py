"""The probe: what is recorded where."""
