"""The moving part: Faust wiring, batches, watermark, close, checkpoint, dead letters and the command line."""
