"""Whether all is well with a deployment, line by line; each line that is not says what to do.

A workspace's folder enters, findings leave. Read `findings` (what one is), `machine` (what is
asked of the computer), `service` (what is asked of the workspace), then `examine` (all).
"""
