"""People of videos: who is who, tags, search, digests."""
