"""Layouts: how the weights that stay are spread over the layers; one file each, named by scope."""
