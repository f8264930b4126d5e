"""Who uses the service: apps, what they ask for, and how much they use."""
