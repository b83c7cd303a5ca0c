"""The paths of the service, a file for each family of clients; `routes` lists them all.

A door here only carries: it reads the body, hands it to the translator of `habitue.ingest.doors`
through the collector, and says what came of it as that client expects.
"""
