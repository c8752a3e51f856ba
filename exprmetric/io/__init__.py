"""Reading and writing: images, tables, files, folders, videos; limits and names."""
