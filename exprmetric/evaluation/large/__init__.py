"""Large runs: journal, cache, shards, reading processes, Ray."""
