"""Steps 5 to 8 of a call's life: claim, post, decide, settle.

worker.py has their order; run.py starts the workers; retry.py, pacing.py and adaptive.py decide (pure); upload.py makes one
HTTP request.
"""
