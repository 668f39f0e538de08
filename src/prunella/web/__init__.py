"""HTTP: routes that parse, call the engine and spell its answers. Nothing is decided here."""
