"""Other shapes of the same work: more flags, metrics, bytes, events a unit, and one unit that has half of them."""
