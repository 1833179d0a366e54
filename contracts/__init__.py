"""What crosses a boundary: events, flag contracts, decoded columns, dead letters, placement. No I/O, no Kafka."""
