"""Who decides what, when and in which order. Knows contracts only: no driver, no HTTP client, no SQL."""
