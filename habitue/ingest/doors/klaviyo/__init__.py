"""Klaviyo's own protocol: bodies of its API (JSON:API) in, an `Intake` out, refusals in its words.

Read `reading` (a place in a document, and its limits), `problems` (what the client is told), then
`people` and `orders` (what profiles and properties mean), then the doors: `events`, `profiles`,
`consents`, `lists` and `catalog`. A request is taken whole or refused whole, with every problem
named.
"""
