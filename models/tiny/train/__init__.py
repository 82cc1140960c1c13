"""Training of the tiny pack on drawn faces: one command per network, seeded, on a CPU or a GPU."""
