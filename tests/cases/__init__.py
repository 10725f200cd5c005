"""Inputs that were handled wrongly once, by kind: those of the shared cases if they are available, and others of the same
kind."""
