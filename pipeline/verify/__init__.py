"""The audit of a lake: what it should hold, found a second way, and compared with what it does hold.

Nothing here shares code with the decoder or the close. Records are read again from their topics, with a JSON reader of
its own; each unit is joined by hand, close by close, with the rules in plain Python; and the answer is compared row by
row with what the manifests say is the lake. Trusted are the contracts' reader, the hash that places keys, and whatever
depends on the clock or on settings of a worker at that time: such refusals are counted, not judged.
"""
