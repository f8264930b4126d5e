"""What is on this machine: blobs by digest, installed models, keys, measurements."""
