"""A local stand-in for Tuner: for trying things out, the demo, the benchmarks and the tests (also those of others).

It judges bodies by its own models and imports nothing of tunerd's mapping or delivery, so that a mistake there is not made
twice. What it does not imitate: Tuner's analysis, and the presigned recording upload.
"""
