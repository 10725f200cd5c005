"""What outsiders see of tunerd, and what they ask of it: logs, metrics, HTTP pages, the control socket, systemd.

Two `match` statements listen to events (event_logger.py, metrics.py); desk.py is the third, small conductor: what an operator
asks of the ledger. Nothing in here decides anything about a call by itself.
"""
