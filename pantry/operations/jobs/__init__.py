"""Jobs: the kinds of long work, the one runner of them, and what the owner may ask of them."""
