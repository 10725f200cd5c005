"""Steps 1 to 4 of a call's life: notice, read, map, admit.

file_reader.py has their order; nothing here looks inside a document.
"""
