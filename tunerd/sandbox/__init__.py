"""A local stand-in for Tuner: for trying things out, the demo, the benchmarks and the tests (also those of others).

It judges bodies by its own models and imports nothing of tunerd's mapping or delivery, so that a mistake there is not made
twice. Its storage answers presigned uploads as S3 does. What it does not imitate: Tuner's analysis.
"""
