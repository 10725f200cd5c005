"""The tables of the ledger in SQL, every statement over them, and one transaction over all of them."""
