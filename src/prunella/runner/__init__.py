"""Bring a handler back at the right time: nothing else. What is to be done stands in the tables."""
