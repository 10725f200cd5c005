"""How the ledger's rows stand in SQL: the tables, what is asked of them, and one transaction over them."""
