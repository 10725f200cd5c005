"""What tunerd knows of audio itself: its formats, and how its bytes are read without ever reading another call's.

Which recording belongs to a call is decided by the ledger, and delivery/ sends the bytes.
"""
