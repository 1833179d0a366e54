"""The whole way from Kafka to facts, beside what one would write instead."""
