"""The status page: what runs, what waits, what failed and why, as HTML for a person. It shows answers of admin/ and asks nothing
else; its actions are orders of admin/api.py. Without a login nothing on it changes anything.
"""
