"""A shop's past, read from the API of the tool it comes from: pages in, a settled Receipt out.

Read `api` (one page after another, at the pace that is allowed), then `pages` (what a page says),
`settling` (a page's way into the lake), and `klaviyo` (the import as a whole, and how it goes on).
"""
