"""Dead letters in the hands of whoever is on call: listed, shown, replayed, exported.

What is decided here is decided by pure functions of letters, of the lake and of the ledger; one module reads topics and
one command writes to them.
"""
