"""What came after: the customers of an audience as of an instant, and what they did next.

An audience of an earlier instant enters, with what was known of everyone by then; what everyone
did in the days that followed leaves, of those in it beside those outside, and beside those outside
who were most like them. Read first `happened` (two readings of the lake), then `matching`,
`figures` and `caveats`.
"""
