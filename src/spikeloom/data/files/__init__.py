"""Containers and places: folders and archives, HDF5, .mat and pickled files, read without trust."""
