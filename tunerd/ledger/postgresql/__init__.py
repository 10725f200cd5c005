"""The ledger on PostgreSQL, for many tunerds. psycopg is imported here and nowhere else, and only where the URL asks for it."""
