"""Inputs that went wrong once, kind by kind: those of the shared cases where they are there, and others of the same kind."""
