"""What an operator asks of tunerd. `api` is the one table of orders; `service` carries them out, in the daemon or in a command
that holds the ledger itself; `socket_server` and `client` are the two ends of the daemon's control socket.
"""
