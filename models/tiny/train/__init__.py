"""Training of the tiny pack on drawn faces. Needs the extra `train`; nothing here is imported by the runtime.

Read pack.toml first: what each network is trained with. One network with all that it needs, its curve, pictures and
figures: python -m models train NAME. One network alone: python -m models.tiny.train.NAME. The whole pack, with pictures
drawn by several processes and a measured card: python -m models.tiny.train.all --out FOLDER.
"""
