"""What a report shows, as frames: seconds, bytes and FLOPs, one row what its name says."""
