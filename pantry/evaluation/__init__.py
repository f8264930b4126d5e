"""What models can do, as measured: capability scores and speeds."""
