"""The state of the machine that a rank runs on, read outside of what is timed.

Only `probe` and `environment` load torch. What cannot be read is recorded as unread, with the reason: a zero
would look like a healthy machine.
"""
