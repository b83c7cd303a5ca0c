"""What our own paths take and answer, declared once: as what reads it and as the document of it.

A route names structs for its parameters, its body and its reply; nothing else is written down of
them but an example. Read `wanted` (how a request is read, and every fault of it told), then
`openapi` (how the same structs become OpenAPI 3.1) and `examples`. Other people's paths have
documents of their own.
"""
