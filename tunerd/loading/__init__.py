"""A configuration file and the environment -> Config, or every problem at once, each with its place.

config_file.py is the way in; a file for each section that needs more than its declaration in config/. rule_checks.py adds what
the rules say. Nothing but cli/, app.py and runtime.py imports this package.
"""
