"""A ledger over any store: its methods become jobs for a writer and questions to a reader, whatever engine these work on."""
