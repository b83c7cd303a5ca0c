"""What lies below `habitue.lake.profiles`: nouns and rows of the lake in, rows of SQLite out.

Read `told` (what is taken from each noun), then `store` (the tables, and how they are kept).
"""
