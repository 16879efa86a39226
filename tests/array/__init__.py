"""An array of our own: an iSCSI target on trio whose LUNs can fail in ways that no real one can be asked for.

pdu, negotiation, session     iSCSI (RFC 7143): one connection a session, error recovery level 0
unit, reservations, identity  a logical unit (SPC-4, SBC-3, SPC-2)
medium, faults                what is on the disk, the log of writes, what goes wrong: all from a seed
array, control                the whole, how a test drives it, and `python -m tests.array`
"""
