"""tunerd: the sidecar that gets every finished voice call, with its recording, into Tuner.

docs/architecture.md follows one call through the code.
"""

__version__ = "0.1.0"
