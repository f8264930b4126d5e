"""Pantry's own API: functions by name, over HTTP and a Unix socket."""
