"""The lake: one set of Delta tables for all shops.

Enters: rows from the gate and from the rooms that publish tables. Leaves: Arrow tables, by SQL,
as of an instant. Read in this order: schema, tables, journal, query.
"""
