"""What all of Klaviyo's lists and resources share: what a request asks for, and how it is answered.

Enters: the parameters of a request. Leaves: filters, pages and fields that are known; documents of
JSON:API. Read `filters` and `cursors` (the grammars), `asking`, then `resources`.
"""
