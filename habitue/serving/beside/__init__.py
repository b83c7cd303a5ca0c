"""What runs beside the server, how far it has come, and what people are shown of both.

The log enters, the lake and the live profiles are filled. Read `settlement` (how far), `worker`
(the process), then `overview` (what `habitue status` shows).
"""
