"""Large runs: journal, cache, shards, reading processes, suspects, Ray."""
