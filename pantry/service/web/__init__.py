"""What the owner's page asks, one file a view; the page's files are in `static/`."""
