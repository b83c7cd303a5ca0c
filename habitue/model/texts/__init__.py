"""Item texts through a sentence encoder, where a configuration names one.

Enters: the name of an encoder (a folder, or a package that is installed) and texts. Leaves: one
vector a text, kept in the workspace. Nothing is ever downloaded. Reading order: `folder` (where an
encoder is, and that it is the one that is meant), `encoder` (the network), `vectors` (of a shop's
items, read once).
"""
