"""What is read of one customer or item: predictions, lists, memberships, from what is kept ready.

Enters: the live state and what the scorer put into its file. Leaves: values for the doors to show.
Nothing here knows a model; what time has done since a score is worked out when it is asked for.
"""
