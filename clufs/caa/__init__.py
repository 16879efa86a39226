"""Cluster application availability: profiles, placement and the states of resources; pure."""
