"""What is wrong with the producers, told from a sample of the topics.

A sample (`sample`, read by `kafka`) is decoded as a worker would decode it (`reading`); then each group of rules
(`placing`, `keys`, `clocks`, `refusals`, `joining`, `metrics`, `flags`, `splits`, `fields`) looks for its faults. `examination`
asks them all, `findings` has every fault with its why and its remedy, `report` tells what was found. All but `kafka`
and `batches` is pure.
"""
