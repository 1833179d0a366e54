"""What is wrong with the producers, told from a sample of the topics.

A sample (`sample`) is read by `kafka` and `batches`, and decoded as a worker would decode it (`reading`). Then each
group of rules looks for its faults: `topics`, `placing`, `keys`, `clocks`, `refusals`, `exposures`, `joining`,
`windows`, `metrics`, `flags`, `splits`, `fields`. `examination` asks them all, `findings` has every fault with its why
and its remedy, `report` tells what was found. All but `kafka`, `batches` and `command` is pure.
"""
