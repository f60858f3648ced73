"""Who asks: callers by their tokens, end users by the identity provider's.

It does not know what they may do.
"""
