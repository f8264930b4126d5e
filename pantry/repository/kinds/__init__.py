"""The kinds of sources, one file each; the file's name is the kind's name (`pantry.repository.source`)."""
