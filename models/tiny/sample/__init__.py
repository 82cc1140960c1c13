"""The sample of demo and tests: a ten-second clip of two drawn people, its truth, and three source pictures."""
