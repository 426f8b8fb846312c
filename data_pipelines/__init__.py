"""Learning histories on disk: what is stored, how it is written, read and cut into windows."""
