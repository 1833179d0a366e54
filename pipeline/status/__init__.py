"""`evidence status`: one screen of how the partitions stand, by the lake and the topics; needs no worker.

`state` judges what was found, `look` finds it, `screen` shows it.
"""
