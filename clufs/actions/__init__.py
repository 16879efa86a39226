"""The edges of CAA that touch the machine: action scripts, all that they start, and monitors.

`interface` says what the daemon uses. The keeper, a process of its own, runs the scripts, so that
neither starting them nor what they print delays the daemon's locks.
"""
