"""What SQL over the lake may name: the views of one shop, as of an instant.

Rows of the Delta tables enter; views leave, which `habitue.lake.query` opens. Read first
`orders`, what customers did and bought; then `people`, who they are and what is known of them;
then `catalogue`, every view in the order in which they stand on each other.
"""
