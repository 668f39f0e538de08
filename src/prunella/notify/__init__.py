"""How a notification looks in each channel, and how it gets there: one message, one channel, one try.

Which channels hear what, when to try again and what to digest is decided elsewhere; nothing here waits or remembers.
"""
