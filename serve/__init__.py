"""Serving: the gateway, production and shadow on Ray Serve."""
