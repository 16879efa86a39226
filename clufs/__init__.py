"""clufs: the cluster you drive with echo and cat."""

__version__ = "0.1.0"
