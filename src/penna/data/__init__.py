"""Files to records, token shards and batches."""
