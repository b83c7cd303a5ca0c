"""Who came and went, for those who want to know: tables, files, addresses, topics.

The file of the live state enters and is only read. Read first `reading`, then `delivering`, and
`kafka`.
"""
