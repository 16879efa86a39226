"""libiscsi through cffi's ABI mode: declarations, loading, and a look whether they fit the library.

The declarations are those of libiscsi 1.19 (libiscsi.so.7); only what is used is declared.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cffi

from clufs.errors import LunError, MissingPart

LIBRARY = "libiscsi.so.7"
NORMAL_SESSION = 2
GOOD, CHECK_CONDITION = 0, 2
CANCELLED, ERROR, TIMEOUT = 0x0F000000, 0x0F000001, 0x0F000002
"""What callbacks have as status beside those of SCSI."""
NOTHING, READ, WRITE = 0, 1, 2
NO_TAG = 0xFFFFFFFF
DONE, NO_SUCH_FUNCTION = 0, 5
"""What an array answers to task management (RFC 7143, 11.6.1); others are failures."""
POLL_IN, POLL_OUT = 1, 4

_DECLARATIONS = """
struct iscsi_context;
struct iscsi_url {
    char portal[256]; char target[256]; char user[256]; char passwd[256];
    char target_user[256]; char target_passwd[256]; int lun; struct iscsi_context *iscsi; int transport;
};
struct iscsi_data { size_t size; unsigned char *data; };
struct scsi_task {
    int status; int cdb_size; int xfer_dir; int expxferlen; unsigned char cdb[16];
    int residual_status; size_t residual;
    unsigned char error_type; int key; int ascq; unsigned char flags; unsigned char bit_pointer;
    uint16_t field_pointer;
    int datain_size; unsigned char *datain;
};
typedef void (*iscsi_command_cb)(struct iscsi_context *, int status, void *command_data, void *private_data);

struct iscsi_context *iscsi_create_context(const char *initiator_name);
int iscsi_destroy_context(struct iscsi_context *);
int iscsi_set_targetname(struct iscsi_context *, const char *);
int iscsi_set_session_type(struct iscsi_context *, int);
int iscsi_set_isid_random(struct iscsi_context *, uint32_t, uint32_t);
int iscsi_set_initiator_username_pwd(struct iscsi_context *, const char *, const char *);
void iscsi_set_noautoreconnect(struct iscsi_context *, int);
struct iscsi_url *iscsi_parse_full_url(struct iscsi_context *, const char *);
void iscsi_destroy_url(struct iscsi_url *);
const char *iscsi_get_error(struct iscsi_context *);
int iscsi_connect_async(struct iscsi_context *, const char *portal, iscsi_command_cb, void *);
int iscsi_login_async(struct iscsi_context *, iscsi_command_cb, void *);
int iscsi_logout_async(struct iscsi_context *, iscsi_command_cb, void *);
int iscsi_get_fd(struct iscsi_context *);
int iscsi_which_events(struct iscsi_context *);
int iscsi_service(struct iscsi_context *, int revents);
int iscsi_scsi_command_async(struct iscsi_context *, int lun, struct scsi_task *, iscsi_command_cb,
    struct iscsi_data *, void *);
int iscsi_task_mgmt_async(struct iscsi_context *, int lun, int function, uint32_t ritt, uint32_t rcmdsn,
    iscsi_command_cb, void *);
struct scsi_task *scsi_create_task(int cdb_size, unsigned char *cdb, int xfer_dir, int expxferlen);
void scsi_free_scsi_task(struct scsi_task *);
"""

ffi = cffi.FFI()
ffi.cdef(_DECLARATIONS)

OFFSETS = {
    "cdb": 16,
    "residual": 40,
    "error_type": 48,
    "ascq": 56,
    "field_pointer": 62,
    "datain_size": 64,
    "datain": 72,
}
"""Where libiscsi 1.19 keeps the fields of its scsi_task on machines of 64 bits."""


@cache
def library() -> Any:
    """Load libiscsi once. Raises MissingPart with the line that mends it, LunError if it is another version."""
    try:
        loaded = ffi.dlopen(LIBRARY)
    except OSError as error:
        raise MissingPart(f"{LIBRARY} is missing: apt-get install libiscsi7") from error
    for name, offset in OFFSETS.items():
        if ffi.offsetof("struct scsi_task", name) != offset:
            raise LunError(f"{LIBRARY}: {name} of a scsi_task is not at {offset} on this machine")
    _look(loaded)
    return loaded


def _look(loaded: Any) -> None:
    """A task of the library's own making must read as it was made."""
    cdb = bytes(range(16))
    task = loaded.scsi_create_task(16, ffi.from_buffer("unsigned char[]", cdb), READ, 0x1234)
    try:
        same = bytes(task.cdb) == cdb
        if not same or (task.cdb_size, task.xfer_dir, task.expxferlen) != (16, READ, 0x1234):
            raise LunError(f"{LIBRARY} keeps its scsi_task otherwise than version 1.19")
    finally:
        loaded.scsi_free_scsi_task(task)


def text(pointer: Any) -> str:
    """A string of the library."""
    return bytes(ffi.string(pointer)).decode("utf-8", "replace") if pointer else ""
