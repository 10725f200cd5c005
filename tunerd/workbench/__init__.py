"""What people who write rules work with: a document tried on rules, real bodies compared, examples checked, files recognised.

Everything here is pure (documents and rules in, findings or lines of text out); the commands `explain`, `test`, `diff`,
`presets` and `init` read the files and print.
"""
