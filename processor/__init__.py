"""From Kafka to processed objects: attribution, privacy filtering, chunks committed exactly once."""
