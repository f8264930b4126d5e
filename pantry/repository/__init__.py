"""Where flatpacks and models come from, and how they get here: sources, the downloader, TUF metadata."""
