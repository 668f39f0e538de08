"""The library's front door: what works in any Python process with nothing else installed. Nothing of the engine."""

from prunella.core.errors import PrunellaError
from prunella.core.records import Diagnosis, Failure
from prunella.core.redact import Secret, scrub
from prunella.core.states import StateMachine
from prunella.diagnosis.classify import classify

__version__ = "0.1.0.dev0"

__all__ = ["Diagnosis", "Failure", "PrunellaError", "Secret", "StateMachine", "classify", "scrub"]
