"""What to look for in the user's own databases. Empty for now: procedures over user tables come next."""
