"""The language of audiences: frozen nodes, the sentences that say them, and back.

A sentence enters, nodes leave, and the other way round. Read first `windows` and `nodes`, then
`limits` (what no node may be), `reading` (tokens, and errors that point), `parsing` and `writing`.
"""
