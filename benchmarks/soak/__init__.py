"""Two workers for days of event time: whether memory, files, close time and lag stay flat."""
