"""Random work on all members of a real lab while faults of every kind hit it, and an oracle outside clufs.

python -m tests.cluster.torture --seconds 600 --seed 1
"""
