"""Which rows are presented: laws, factors, pick-freeze designs; numpy only."""
