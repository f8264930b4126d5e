"""Dataset cards in their three forms."""
