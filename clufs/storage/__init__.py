"""Shared LUNs: SCSI commands and what comes back, reservations, and the carriers that take commands there.

`layout`, `commands`, `sense`, `inquiry`, `reservation_data` and `port_groups` are pure: bytes in, bytes out.
"""
