"""Who came and went, for those who want to know: tables, files, and addresses that are called.

The file of the live state enters and is only read. Read first `reading`, then `delivering`.
"""
