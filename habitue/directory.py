"""The shops of a workspace: their keys, name tables, and who was erased."""
