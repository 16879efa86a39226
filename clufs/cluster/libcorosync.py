"""corosync's client libraries through cffi's ABI mode: declarations, loading, results as errors.

The declarations are those of corosync 3 (libcpg.so.4, libquorum.so.5, libvotequorum.so.8,
libcmap.so.4): the numbers in the names are ABI versions, so a library that loads fits.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cffi

from clufs.errors import ClufsError, MissingPart

OK = 1
LIBRARY = 2
TRY_AGAIN = 6
NOT_EXIST = 12
MESSAGE_ERROR = 22
AGREED = 2
ONE_NONBLOCKING = 4
TRACK_CHANGES_AND_CURRENT = 0x03
MODEL_V1 = 1
INITIAL_TOTEM_CONFCHG = 1
QUORUM_SET = 1
FLAG_TWO_NODE, FLAG_LAST_MAN_STANDING, FLAG_ALLOW_DOWNSCALE = 1, 8, 32
TYPE_STRING = 11
INTEGER_TYPES = range(1, 9)

_NAMES = {
    2: "corosync is not there",
    5: "timeout",
    6: "try again",
    7: "invalid parameter",
    8: "no memory",
    9: "bad handle",
    11: "access denied",
    12: "does not exist",
    14: "exists",
    15: "no space",
    18: "no resources",
    22: "of another ring",
    26: "too big",
    100: "security",
}

_DECLARATIONS = """
typedef int cs_error_t;
struct ring_id { uint32_t nodeid; uint64_t seq; };
struct iovec { void *iov_base; size_t iov_len; };

struct cpg_address { uint32_t nodeid; uint32_t pid; uint32_t reason; };
struct cpg_name { uint32_t length; char value[128]; };
typedef void (*cpg_deliver_fn_t)(uint64_t, const struct cpg_name *, uint32_t nodeid, uint32_t pid,
    void *msg, size_t msg_len);
typedef void (*cpg_confchg_fn_t)(uint64_t, const struct cpg_name *,
    const struct cpg_address *, size_t, const struct cpg_address *, size_t,
    const struct cpg_address *, size_t);
typedef void (*cpg_totem_confchg_fn_t)(uint64_t, struct ring_id, uint32_t, const uint32_t *);
typedef struct {
    int model;
    cpg_deliver_fn_t deliver;
    cpg_confchg_fn_t confchg;
    cpg_totem_confchg_fn_t totem_confchg;
    unsigned int flags;
} cpg_model_v1_data_t;
cs_error_t cpg_model_initialize(uint64_t *, int model, cpg_model_v1_data_t *, void *context);
cs_error_t cpg_finalize(uint64_t);
cs_error_t cpg_fd_get(uint64_t, int *);
cs_error_t cpg_dispatch(uint64_t, int);
cs_error_t cpg_join(uint64_t, const struct cpg_name *);
cs_error_t cpg_mcast_joined(uint64_t, int guarantee, const struct iovec *, unsigned int);
cs_error_t cpg_local_get(uint64_t, unsigned int *);

typedef void (*quorum_notify_fn_t)(uint64_t, uint32_t quorate, struct ring_id, uint32_t,
    const uint32_t *);
typedef void (*quorum_nodelist_fn_t)(uint64_t, struct ring_id, uint32_t, const uint32_t *,
    uint32_t, const uint32_t *, uint32_t, const uint32_t *);
typedef struct { int model; quorum_notify_fn_t notify; quorum_nodelist_fn_t nodelist; }
    quorum_model_v1_data_t;
cs_error_t quorum_model_initialize(uint64_t *, int model, quorum_model_v1_data_t *,
    uint32_t *type, void *context);
cs_error_t quorum_finalize(uint64_t);
cs_error_t quorum_fd_get(uint64_t, int *);
cs_error_t quorum_dispatch(uint64_t, int);
cs_error_t quorum_trackstart(uint64_t, unsigned int flags);

struct votequorum_info {
    unsigned int node_id, node_state, node_votes, node_expected_votes, highest_expected,
        total_votes, quorum, flags, qdevice_votes;
    char qdevice_name[255];
};
typedef struct { uint32_t nodeid; uint32_t state; } votequorum_node_t;
typedef void (*votequorum_notify_fn_t)(uint64_t, uint64_t context, uint32_t quorate, uint32_t,
    votequorum_node_t *);
typedef void (*votequorum_expected_fn_t)(uint64_t, uint64_t context, uint32_t votes);
typedef void (*votequorum_nodelist_fn_t)(uint64_t, uint64_t context, struct ring_id, uint32_t,
    uint32_t *);
typedef struct {
    votequorum_notify_fn_t notify;
    votequorum_expected_fn_t expected;
    votequorum_nodelist_fn_t nodelist;
} votequorum_callbacks_t;
cs_error_t votequorum_initialize(uint64_t *, votequorum_callbacks_t *);
cs_error_t votequorum_finalize(uint64_t);
cs_error_t votequorum_fd_get(uint64_t, int *);
cs_error_t votequorum_dispatch(uint64_t, int);
cs_error_t votequorum_trackstart(uint64_t, uint64_t context, unsigned int flags);
cs_error_t votequorum_qdevice_register(uint64_t, const char *name);
cs_error_t votequorum_qdevice_unregister(uint64_t, const char *name);
cs_error_t votequorum_qdevice_poll(uint64_t, const char *name, unsigned int cast, struct ring_id);
cs_error_t votequorum_getinfo(uint64_t, unsigned int nodeid, struct votequorum_info *);

cs_error_t cmap_initialize(uint64_t *);
cs_error_t cmap_finalize(uint64_t);
cs_error_t cmap_get(uint64_t, const char *key, void *value, size_t *length, int *type);
cs_error_t cmap_iter_init(uint64_t, const char *prefix, uint64_t *);
cs_error_t cmap_iter_next(uint64_t, uint64_t, char *key, size_t *length, int *type);
cs_error_t cmap_iter_finalize(uint64_t, uint64_t);
"""

ffi = cffi.FFI()
ffi.cdef(_DECLARATIONS)


class CorosyncError(ClufsError):
    """A call of corosync's libraries failed; `code` is its cs_error_t."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"{call}: {_NAMES.get(code, f'error {code}')}")
        self.code = code


@cache
def library(name: str) -> Any:
    """Load a library once. Raises MissingPart with the line that mends it."""
    try:
        return ffi.dlopen(name)
    except OSError as error:
        raise MissingPart(f"{name} is missing: apt-get install corosync") from error


def cpg() -> Any:
    """libcpg."""
    return library("libcpg.so.4")


def quorum() -> Any:
    """libquorum."""
    return library("libquorum.so.5")


def votequorum() -> Any:
    """libvotequorum."""
    return library("libvotequorum.so.8")


def cmap() -> Any:
    """libcmap."""
    return library("libcmap.so.4")


class Source:
    """A connection to corosync with a descriptor and events. `name` begins the names of its calls."""

    name: str
    library: Any
    handle: Any
    fd: int

    def opened(self) -> None:
        """Find the descriptor, once the connection stands."""
        fd = ffi.new("int *")
        get = getattr(self.library, f"{self.name}_fd_get")
        checked(f"{self.name}_fd_get", get(self.handle[0], fd))
        self.fd = fd[0]

    def dispatch(self) -> bool:
        """Take one event; False if there is none. Raises CorosyncError when the engine is gone."""
        call = f"{self.name}_dispatch"
        code = getattr(self.library, call)(self.handle[0], ONE_NONBLOCKING)
        if code == TRY_AGAIN:
            return False
        checked(call, code)
        return True

    def close(self) -> None:
        """Let go of it; corosync tells the others if it was joined."""
        getattr(self.library, f"{self.name}_finalize")(self.handle[0])


def checked(call: str, code: int) -> None:
    """Raise CorosyncError unless `code` is CS_OK."""
    if code != OK:
        raise CorosyncError(call, code)
