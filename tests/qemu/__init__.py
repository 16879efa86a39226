"""The kernel's side, which no test can have otherwise: Debian's kernel in QEMU, with LIO, softdog and this tree.

machine     the kernel's package, an initramfs, the virtual machine; `python -m tests.qemu`
lio         LIO's ramdisks as SCSI disks of the guest, by configfs
guest_*     the tests, run in the guest by its own pytest
"""
