"""Our own paths for answers: who a customer is, what they will do, what to show them.

Every answer is as of now, or as of the instant `at` that is asked for: what silence has done since
the last event is in it. Read `reading`, then `asking`, `people` and `lists`.
"""
