"""Where the lake's files are: a local folder, or a bucket of an object store.

What enters is a place (a `Path`, or an `ObjectPlace` of the same shape) and bytes; what leaves are
bytes, lists of files, and leases. `interface.py` says what both promise, `folder.py` and
`bucket.py` keep it, `control.py` is the one object by which writers to a bucket take turns.
"""
