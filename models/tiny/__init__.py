"""The tiny pack: four small networks with the published contracts, trained on drawn faces and good for those only."""
