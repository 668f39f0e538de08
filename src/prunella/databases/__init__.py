"""Users' databases: a narrow handle on them, and inserts that heal themselves for users' own code."""

from prunella.databases.upsert import Healed, Healing, Written, insert_or_update, with_defaults

__all__ = ["Healed", "Healing", "Written", "insert_or_update", "with_defaults"]
