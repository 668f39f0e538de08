"""Words everyone shares: records, states, time, redaction, errors. Standard library only, no I/O."""
