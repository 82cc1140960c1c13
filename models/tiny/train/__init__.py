"""Training of the tiny pack on drawn faces. Needs the extra `train`; nothing here is imported by the runtime.

One network: python -m models.tiny.train.NAME (detector, refiner, embedder, swapper). All of them, of either look, with
pictures drawn by several processes and a measured card: python -m models.tiny.train.all --out FOLDER.
"""
