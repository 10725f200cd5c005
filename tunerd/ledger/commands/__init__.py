"""What each command of the ledger does to its rows. Each function runs inside one transaction of
its caller, which makes it durable or undoes it as a whole; none of them waits, opens or commits anything.
"""
