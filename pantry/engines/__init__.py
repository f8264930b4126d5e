"""Programs that run models: adapters, worker processes and the pool that keeps them in the memory budget."""
