"""Questions that spend quota: consume, reserve, commit, release and refund, over a port to the ledger.

It decides by `decisions`, and does not know how the ledger keeps its promises.
"""
