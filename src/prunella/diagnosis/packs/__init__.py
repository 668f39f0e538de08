"""Known issues that can be handed on: entries of a pack, read strictly, and the pack that is shipped.

`builtin.yaml` is the document that people write; `make profiles` compiles it, because the base install reads no YAML.
"""

from prunella.diagnosis.packs.entries import Known, Mistake, plain_of, read_entries, read_entry
from prunella.diagnosis.packs.shipped import builtin

__all__ = ["Known", "Mistake", "builtin", "plain_of", "read_entries", "read_entry"]
