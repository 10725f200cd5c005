"""What is visible of tunerd from outside: logs, metrics, HTTP pages, health, systemd. Listeners to the events (event_logger.py,
metrics.py, coverage.py) and readers of values that are kept anyway; nothing here changes a call.
"""
