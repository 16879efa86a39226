"""Shared LUNs: SCSI commands and what comes back, the carriers that take them there, reservations.

layout, commands, sense, inquiry, reservation_data, port_groups   pure: bytes in, bytes out
outcome                 status and sense data as errors
carrier                 one path to one LUN; libiscsi and iscsi (URLs), sgio (kernel devices)
sealing, disk_header, records, slots   what lies on a LUN of role "clufs", and where; pure
own_lun                 formatting and using one
lease                   how our lease stands, and what the others' slots say of them; pure
devices, inventory      which LUNs there are and how each is reached; pure
udev, keeping           kernel devices that come and go; configured paths kept open, commands by the best of them
asking                  a question to a LUN that many ask, and that nobody waits for without end
lease_process, beat     the lease process; lease_line and lease_wire: the daemon's end of it; watchdog
block, paths            the blocks of a LUN or a file; paths opened by URL, and which LUN is behind them
reservations, probe     fencing by persistent reservations, and whether an array is fit for it
"""
