"""The samples as one picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl

from benchmarks.soak.samples import AGEING_SINCE, CLOSING_SINCE, Sample

__all__ = ["plot"]

PANELS: Final = (
    ("memory of each process, MB", (("worker_0_bytes", "worker 1"), ("worker_1_bytes", "worker 2")), 1e-6),
    ("open events, millions", (("open_events", "in segments"),), 1e-6),
    ("time, s", (("close_s", "a close"), ("checkpoint_s", "a checkpoint")), 1),
    ("lag, s of publishing", (("lag_s", "not yet in the lake"),), 1),
    ("bytes, MB", (("segment_bytes", "segments"), ("residue_bytes", "residue")), 1e-6),
    ("files that manifests name", (("segments", "segments"), ("residue_files", "residue")), 1),
    ("files on disk", (("segments_on_disk", "segments/"), ("tables_on_disk", "tables/")), 1),
    ("newest manifests, KB", (("manifest_bytes", "all partitions"),), 1e-3),
)


def plot(samples: Sequence[Sample], title: str, path: Path) -> None:
    """Write a PNG; dotted lines stand where the first windows have closed and the first residue has gone."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- after the choice of what draws

    figure, axes = plt.subplots(2, 4, figsize=(15, 5.6), layout="constrained")
    figure.suptitle(title, fontsize=10)
    last = samples[-1]["hour"]
    for axis, (label, lines, scale) in zip(axes.flat, PANELS, strict=True):
        for name, legend in lines:
            known = [each for each in samples if name in each]
            axis.plot(
                [each["hour"] for each in known], [each[name] * scale for each in known], label=legend, linewidth=1
            )
        for hour in (CLOSING_SINCE, AGEING_SINCE):
            if hour < last:
                axis.axvline(hour, linestyle=":", color="grey", linewidth=0.8)
        axis.set_title(label, fontsize=9)
        axis.set_ylim(bottom=0)
        axis.set_xlim(0, last)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=7, loc="lower right")
    for axis in axes[-1]:
        axis.set_xlabel("hours of event time", fontsize=8)
    figure.savefig(path, dpi=70)
    plt.close(figure)
