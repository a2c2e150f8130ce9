"""One run in several processes: they meet, agree, and end together."""
