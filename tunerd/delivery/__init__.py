"""Steps 5 to 8 of a call's life: claim, upload, decide, settle.

run.py is the conductor; retry.py, pacing.py and adaptive.py decide (pure); upload.py makes one HTTP attempt.
"""
