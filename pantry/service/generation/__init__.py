"""One form of a generation for every surface: the request, the events, asking an engine."""
