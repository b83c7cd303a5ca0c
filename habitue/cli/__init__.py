"""The command line: parses, calls, prints.

Arguments enter; data leaves on stdout and everything else on stderr. Nothing heavy is loaded before
a command needs it. Read in this order: app (the entry point), options (what commands share),
output (tables, JSON, files), bars (progress), then the commands: store, simulate, train,
evaluate, ask, demo.
"""
