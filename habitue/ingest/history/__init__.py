"""A shop's past, read from the API of the tool it comes from: pages in, a settled Receipt out.

Read `api` (one page after another, at the pace that is allowed), then `pages` (what a page says),
then `klaviyo` (the import as a whole, and how it goes on after it was cut short).
"""
