"""Processes that die at any moment: real workers, a real PostgreSQL, third parties that count, a ledger at the end.

It kills and never asks the engine how it felt about it: what happened is read from the tables and from the third party.
Nothing here is part of the product, and the product knows nothing of it.
"""
