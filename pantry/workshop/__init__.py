"""Makes and changes models: training, tuning, converting, quantising, weight differences."""
