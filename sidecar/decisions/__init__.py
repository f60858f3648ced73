"""The core: a question and facts become a situation, the policy answers, and the answer is a decision.

It asks through ports, does no I/O, and takes no quota.
"""
