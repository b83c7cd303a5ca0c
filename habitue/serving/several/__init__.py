"""Several processes behind one port: each answers, and one of them writes.

A workspace enters, answers leave. Read `handing` (how a process hands rows of the log on),
`writing` (who takes them), `sharing` (what all count together), `working` (a process that
answers), then `parent` (which starts all of it).
"""
