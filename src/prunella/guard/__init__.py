"""In-process resilience: protections around one call. Standard library only; knows nothing but core."""
