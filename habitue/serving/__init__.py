"""The service: HTTP in, the event log behind it, and the workers that follow the log.

Requests enter, receipts leave. Read `app` (routes), `collect` (a request's way to the log), `auth`,
then `server`, and `beside` (what runs beside it).
"""
