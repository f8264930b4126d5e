"""The starter model from nothing: write its text, train it, export it, measure it. See README.md."""
