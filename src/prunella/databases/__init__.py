"""A narrow handle on the USER's databases. Empty for now: procedures over user tables come next."""
