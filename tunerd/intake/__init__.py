"""Steps 1 to 4 of a call's life: watch, read, map, admit. file_reader.py shows
the order; nothing here looks inside a document."""
