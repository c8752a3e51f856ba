"""Files that travel inside the package: the encoders that this project trained, with their model cards."""
