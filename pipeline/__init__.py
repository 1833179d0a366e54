"""The moving part: Faust wiring, batches, watermark, close, checkpoint, dead letters and the command line."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no matrices here: to start its threads takes 0.2 s of CPU
