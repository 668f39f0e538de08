"""From failure to cause: what is wrong, how sure that is, and which failures are the same problem. Pure, no I/O."""

from prunella.diagnosis.classify import classify
from prunella.diagnosis.fingerprint import fingerprint, mask, operation_of

__all__ = ["classify", "fingerprint", "mask", "operation_of"]
