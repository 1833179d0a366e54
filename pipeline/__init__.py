"""The moving part: Faust wiring, batches, watermark, close, checkpoint, dead letters and the command line."""

import gc
import os

gc.set_threshold(50_000)  # objects: most of what imports make stays; by default it is looked through 400 times, 0.1 s
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no matrices here: to start its threads takes 0.2 s of CPU
