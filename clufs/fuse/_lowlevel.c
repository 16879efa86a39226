/*
 * What pyfuse3 leaves out of libfuse: who writes, interrupts, parked answers, flock and fcntl.
 *
 * Loaded before pyfuse3, it makes its names global, so that pyfuse3's calls of the libfuse
 * functions defined here reach this file; it calls the real ones. Everything runs in the thread
 * of the session loop with the GIL held: pyfuse3 never gives the GIL up around these calls.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* dladdr */
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#define FUSE_USE_VERSION 32
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

/* Bits of a file handle that open() answers with; the handle keeps them. */
#define FH_NOFLUSH (1ULL << 62)
#define FH_PARALLEL (1ULL << 61)
#define FH_BLOCKING (1ULL << 60)

/* A node id is serial << 32 | number; st_ino shows the number alone. */
#define NUMBER_MASK 0xffffffffULL

/* After so many requests without a pause the other trio tasks have a turn. */
#define STREAK 32

#define EXPORT __attribute__((visibility("default")))

enum kind { KIND_WRITE, KIND_LOCK, KIND_GETLK, KIND_READ };
enum lock_op { OP_FLOCK, OP_SETLK, OP_GETLK };
enum turn { TURN_GO_ON, TURN_DRAINED, TURN_REST };

/* libfuse's own functions behind the ones this file takes over, as real_fuse_session_new etc. */
#define TAKEN_OVER(X) \
	X(fuse_session_new) \
	X(fuse_session_mount) \
	X(fuse_session_destroy) \
	X(fuse_session_receive_buf) \
	X(fuse_session_process_buf) \
	X(fuse_reply_entry) \
	X(fuse_reply_create) \
	X(fuse_reply_attr) \
	X(fuse_reply_open) \
	X(fuse_add_direntry_plus)
#define DECLARE_REAL(name) static __typeof__(name) *real_##name;
TAKEN_OVER(DECLARE_REAL)

/* The operations pyfuse3 gave; what no handler is registered for goes there. */
static struct fuse_lowlevel_ops pyfuse3_ops;
static bool session_made;

/* Counts the sessions that ended: libfuse's requests of an ended one must not be touched. */
static uint32_t epoch;

static PyObject *write_handler, *lock_handler, *read_handler, *interrupted_list;

/* The request being dispatched, copied out of the kernel's message. */
static struct {
	uint32_t pid, uid, gid, umask;
	uint64_t fh, offset, lock_owner;
	bool has_fh;
} current;

static enum turn turn;
static unsigned streak;

static struct fuse_session *session_now;

/* What module_serve has read and pyfuse3 must see, if kept_size; its memory is libfuse's malloc(3). */
static struct fuse_buf kept;
static int kept_size;

/* ---- Request: one unanswered kernel request in Python's hands ---- */

typedef struct {
	PyObject_HEAD
	fuse_req_t req; /* NULL once answered */
	int pid;
	unsigned uid, gid;
	uint32_t epoch;
	uint8_t kind;
	bool interrupted;
} Request;

static PyTypeObject RequestType;

static Request *request_new(fuse_req_t req, enum kind kind)
{
	Request *self = PyObject_New(Request, &RequestType);

	if (!self) {
		PyErr_Clear();
		fuse_reply_err(req, ENOMEM);
		return NULL;
	}
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	self->req = req;
	self->pid = ctx->pid;
	self->uid = ctx->uid;
	self->gid = ctx->gid;
	self->epoch = epoch;
	self->kind = kind;
	self->interrupted = false;
	return self;
}

/* The libfuse request to answer, once: replying frees it, and so does the end of its session. */
static fuse_req_t request_take(Request *self)
{
	fuse_req_t req = self->epoch == epoch ? self->req : NULL;

	self->req = NULL;
	return req;
}

static int request_fail(Request *self, int err)
{
	fuse_req_t req = request_take(self);

	return req ? fuse_reply_err(req, err) : -ENOENT;
}

static int request_lock(Request *self, struct flock *lock)
{
	fuse_req_t req = request_take(self);

	return req ? fuse_reply_lock(req, lock) : -ENOENT;
}

static int request_data(Request *self, const char *data, size_t size)
{
	fuse_req_t req = request_take(self);

	return req ? fuse_reply_buf(req, data, size) : -ENOENT;
}

/* n >= 0 is success in the way of the request's kind, n < 0 an errno. */
static int request_answer(Request *self, long n)
{
	struct flock nothing_in_the_way = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
	fuse_req_t req;

	if (n < 0)
		return request_fail(self, (int)-n);
	if (self->kind == KIND_GETLK)
		return request_lock(self, &nothing_in_the_way);
	if (self->kind == KIND_LOCK)
		return request_fail(self, 0);
	if (self->kind == KIND_READ) /* a number says nothing but end of file */
		return request_data(self, NULL, 0);
	req = request_take(self);
	return req ? fuse_reply_write(req, (size_t)n) : -ENOENT;
}

/*
 * Called by libfuse with its lock on the request held: answering here would deadlock, so the
 * request is only noted. An answered request has no callback left, so `data` is alive.
 */
static void on_interrupt(fuse_req_t Py_UNUSED(req), void *data)
{
	Request *self = data;

	self->interrupted = true;
	if (interrupted_list && PyGILState_Check() &&
	    PyList_Append(interrupted_list, (PyObject *)self) < 0)
		PyErr_Clear();
}

/* Settles what a handler returned: an int or bytes answer now, None parks, an exception is EIO. */
static void request_settle(Request *self, PyObject *result, PyObject *handler)
{
	long n = -EIO;

	if (result == Py_None) {
		if (self->req)
			fuse_req_interrupt_func(self->req, on_interrupt, self);
		return;
	}
	if (result && PyBytes_Check(result)) {
		request_data(self, PyBytes_AS_STRING(result), (size_t)PyBytes_GET_SIZE(result));
		return;
	}
	if (result)
		n = PyLong_AsLong(result);
	if (PyErr_Occurred()) {
		PyErr_WriteUnraisable(handler);
		n = -EIO;
	}
	request_answer(self, n);
}

static void request_dealloc(PyObject *self)
{
	request_fail((Request *)self, EIO);
	PyObject_Free(self);
}

static PyObject *request_reply_write(PyObject *self, PyObject *arg)
{
	long n = PyLong_AsLong(arg);

	if (n < 0) {
		if (!PyErr_Occurred())
			PyErr_SetString(PyExc_ValueError, "a count of bytes is not negative");
		return NULL;
	}
	return PyBool_FromLong(request_answer((Request *)self, n) == 0);
}

static PyObject *request_reply_err(PyObject *self, PyObject *arg)
{
	long err = PyLong_AsLong(arg);

	if (err == -1 && PyErr_Occurred())
		return NULL;
	if (err < 0 || err > 999)
		return PyErr_Format(PyExc_ValueError, "%ld is not an errno", err);
	return PyBool_FromLong(request_fail((Request *)self, (int)err) == 0);
}

static PyObject *request_reply_data(PyObject *self, PyObject *arg)
{
	char *data;
	Py_ssize_t size;

	if (PyBytes_AsStringAndSize(arg, &data, &size) < 0)
		return NULL;
	return PyBool_FromLong(request_data((Request *)self, data, (size_t)size) == 0);
}

static PyObject *request_reply_lock(PyObject *self, PyObject *args)
{
	struct flock lock = {.l_whence = SEEK_SET};
	long long start, end;
	int pid;

	if (!PyArg_ParseTuple(args, "hLLi", &lock.l_type, &start, &end, &pid))
		return NULL;
	lock.l_start = start;
	lock.l_len = end == INT64_MAX ? 0 : end - start + 1;
	lock.l_pid = pid;
	return PyBool_FromLong(request_lock((Request *)self, &lock) == 0);
}

static PyObject *request_answered(PyObject *self, void *Py_UNUSED(closure))
{
	Request *request = (Request *)self;

	return PyBool_FromLong(!request->req || request->epoch != epoch);
}

static PyMethodDef request_methods[] = {
	{"reply_write", request_reply_write, METH_O, NULL},
	{"reply_err", request_reply_err, METH_O, NULL},
	{"reply_data", request_reply_data, METH_O, NULL},
	{"reply_lock", request_reply_lock, METH_VARARGS, NULL},
	{NULL},
};

static PyMemberDef request_members[] = {
	{"pid", T_INT, offsetof(Request, pid), READONLY, NULL},
	{"uid", T_UINT, offsetof(Request, uid), READONLY, NULL},
	{"gid", T_UINT, offsetof(Request, gid), READONLY, NULL},
	{"interrupted", T_BOOL, offsetof(Request, interrupted), READONLY, NULL},
	{NULL},
};

static PyGetSetDef request_getset[] = {
	{"answered", request_answered, NULL, NULL, NULL},
	{NULL},
};

static PyTypeObject RequestType = {
	PyVarObject_HEAD_INIT(NULL, 0)
	.tp_name = "clufs.fuse._lowlevel.Request",
	.tp_doc = "A kernel request that is answered once, now or later; EIO if it is dropped.",
	.tp_basicsize = sizeof(Request),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.tp_dealloc = request_dealloc,
	.tp_methods = request_methods,
	.tp_members = request_members,
	.tp_getset = request_getset,
};

/* ---- the operations this file adds to pyfuse3's ---- */

static void call_handler(Request *self, PyObject *handler, PyObject **args, size_t count)
{
	PyObject *result = NULL;
	bool complete = true;

	args[0] = (PyObject *)self;
	for (size_t i = 0; i < count; i++)
		complete = complete && args[i];
	Py_INCREF(handler); /* it may be replaced while it runs */
	if (complete)
		result = PyObject_Vectorcall(handler, args, count, NULL);
	request_settle(self, result, handler);
	Py_DECREF(handler);
	Py_XDECREF(result);
	for (size_t i = 0; i < count; i++)
		Py_XDECREF(args[i]);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	if (!write_handler) {
		pyfuse3_ops.write(req, ino, data, size, offset, fi);
		return;
	}
	Request *self = request_new(req, KIND_WRITE);
	if (!self)
		return;
	PyObject *args[] = {
		NULL,
		PyLong_FromUnsignedLongLong(fi->fh),
		PyBytes_FromStringAndSize(data, (Py_ssize_t)size),
	};
	call_handler(self, write_handler, args, 3);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	if (!read_handler || !(fi->fh & FH_BLOCKING)) {
		pyfuse3_ops.read(req, ino, size, offset, fi);
		return;
	}
	Request *self = request_new(req, KIND_READ);
	if (!self)
		return;
	PyObject *args[] = {
		NULL,
		PyLong_FromUnsignedLongLong(fi->fh),
		PyLong_FromLongLong(offset),
		PyLong_FromSize_t(size),
	};
	call_handler(self, read_handler, args, 4);
}

static void any_lock(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi,
		     enum lock_op op, const struct flock *lock, int sleep)
{
	Request *self;

	if (!lock_handler) {
		fuse_reply_err(req, ENOLCK);
		return;
	}
	self = request_new(req, op == OP_GETLK ? KIND_GETLK : KIND_LOCK);
	if (!self)
		return;
	long long end = lock->l_len ? lock->l_start + lock->l_len - 1 : INT64_MAX;
	PyObject *args[] = {
		NULL,
		PyLong_FromLong(op),
		PyLong_FromUnsignedLongLong(ino),
		PyLong_FromUnsignedLongLong(fi->fh),
		PyLong_FromUnsignedLongLong(fi->lock_owner),
		PyLong_FromLong(lock->l_type),
		PyLong_FromLongLong(lock->l_start),
		PyLong_FromLongLong(end),
		PyLong_FromLong(lock->l_pid),
		PyBool_FromLong(sleep),
	};
	call_handler(self, lock_handler, args, 10);
}

static void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
	struct flock lock = {.l_type = F_WRLCK, .l_pid = fuse_req_ctx(req)->pid};

	if (op & LOCK_SH)
		lock.l_type = F_RDLCK;
	else if (op & LOCK_UN)
		lock.l_type = F_UNLCK;
	any_lock(req, ino, fi, OP_FLOCK, &lock, !(op & LOCK_NB));
}

static void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock,
		     int sleep)
{
	any_lock(req, ino, fi, OP_SETLK, lock, sleep);
}

static void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock)
{
	any_lock(req, ino, fi, OP_GETLK, lock, 0);
}

/* ---- libfuse's functions as pyfuse3 calls them: the session ---- */

EXPORT struct fuse_session *fuse_session_new(struct fuse_args *args,
					     const struct fuse_lowlevel_ops *given, size_t size,
					     void *userdata)
{
	struct fuse_lowlevel_ops ops = {0};

	memcpy(&ops, given, size < sizeof(ops) ? size : sizeof(ops));
	pyfuse3_ops = ops;
	ops.write = op_write;
	ops.write_buf = NULL; /* without it libfuse receives by read(2), not through a pipe */
	ops.read = op_read;
	ops.flock = op_flock;
	ops.setlk = op_setlk;
	ops.getlk = op_getlk;
	ops.readdir = ops.readdirplus; /* fuse_add_direntry_plus below writes plain entries */
	ops.readdirplus = NULL;
	turn = TURN_GO_ON;
	streak = 0;
	session_made = true;
	session_now = real_fuse_session_new(args, &ops, sizeof(ops), userdata);
	return session_now;
}

EXPORT int fuse_session_mount(struct fuse_session *session, const char *mountpoint)
{
	int res = real_fuse_session_mount(session, mountpoint);

	if (res == 0) {
		int fd = fuse_session_fd(session);
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	}
	return res;
}

EXPORT void fuse_session_destroy(struct fuse_session *session)
{
	epoch++;
	session_made = false;
	session_now = NULL;
	free(kept.mem);
	kept = (struct fuse_buf){0};
	kept_size = 0;
	real_fuse_session_destroy(session);
}

static void note_fh(uint64_t fh)
{
	current.fh = fh;
	current.has_fh = true;
}

/* Reads off the kernel's message what libfuse or pyfuse3 do not hand on. */
static void note_argument(uint32_t opcode, const void *arg)
{
	const struct fuse_getattr_in *get = arg;
	const struct fuse_setattr_in *set = arg;

	current.has_fh = false;
	current.umask = 0;
	switch (opcode) {
	case FUSE_GETATTR:
		if (get->getattr_flags & FUSE_GETATTR_FH)
			note_fh(get->fh);
		break;
	case FUSE_SETATTR:
		if (set->valid & FATTR_FH)
			note_fh(set->fh);
		break;
	case FUSE_READ:
	case FUSE_WRITE:
		/* both structures begin with the handle and the offset */
		note_fh(((const struct fuse_write_in *)arg)->fh);
		current.offset = ((const struct fuse_write_in *)arg)->offset;
		break;
	case FUSE_FLUSH:
		current.lock_owner = ((const struct fuse_flush_in *)arg)->lock_owner;
		note_fh(((const struct fuse_flush_in *)arg)->fh);
		break;
	case FUSE_RELEASE:
	case FUSE_FSYNC:
	case FUSE_READDIR:
	case FUSE_RELEASEDIR:
	case FUSE_FSYNCDIR:
	case FUSE_POLL:
	case FUSE_SETLK:
	case FUSE_SETLKW:
	case FUSE_GETLK:
		note_fh(*(const uint64_t *)arg);
		break;
	case FUSE_MKNOD:
		current.umask = ((const struct fuse_mknod_in *)arg)->umask;
		break;
	case FUSE_MKDIR:
		current.umask = ((const struct fuse_mkdir_in *)arg)->umask;
		break;
	case FUSE_CREATE:
		current.umask = ((const struct fuse_create_in *)arg)->umask;
		break;
	}
}

/* pyfuse3 starts the handler's coroutine when this has returned, so the note stays. */
EXPORT void fuse_session_process_buf(struct fuse_session *session, const struct fuse_buf *buf)
{
	const struct fuse_in_header *in = buf->mem;

	current.pid = in->pid;
	current.uid = in->uid;
	current.gid = in->gid;
	note_argument(in->opcode, in + 1);
	real_fuse_session_process_buf(session, buf);
}

static bool is_ours(const struct fuse_buf *buf)
{
	switch (((const struct fuse_in_header *)buf->mem)->opcode) {
	case FUSE_WRITE:
		return write_handler != NULL;
	case FUSE_INTERRUPT:
	case FUSE_SETLK:
	case FUSE_SETLKW:
	case FUSE_GETLK:
		return true;
	default:
		return false;
	}
}

/* Hands over what was read for pyfuse3; each side goes on with the other's memory. */
static int take_kept(struct fuse_buf *buf)
{
	struct fuse_buf given = kept;
	int res = kept_size;

	kept = *buf;
	*buf = given;
	kept_size = 0;
	turn = TURN_GO_ON;
	return res;
}

/* Receives until something comes that pyfuse3 must see; -EINTR makes it ask `turn` again. */
EXPORT int fuse_session_receive_buf(struct fuse_session *session, struct fuse_buf *buf)
{
	if (kept_size)
		return take_kept(buf);
	while (streak++ < STREAK) {
		int res = real_fuse_session_receive_buf(session, buf);

		turn = res == -EAGAIN ? TURN_DRAINED : TURN_GO_ON;
		if (res == -EAGAIN)
			return -EINTR;
		if (res == -ECONNABORTED) { /* aborted while a request was on its way to us */
			fuse_session_exit(session);
			return 0;
		}
		if (res <= 0 || !is_ours(buf))
			return res;
		fuse_session_process_buf(session, buf);
		if (interrupted_list && PyList_GET_SIZE(interrupted_list))
			return -EINTR;
	}
	turn = TURN_REST;
	return -EINTR;
}

/* ---- libfuse's functions as pyfuse3 calls them: the answers ---- */

static struct fuse_entry_param shown(const struct fuse_entry_param *given)
{
	struct fuse_entry_param entry = *given;

	entry.attr.st_ino &= NUMBER_MASK;
	return entry;
}

EXPORT int fuse_reply_entry(fuse_req_t req, const struct fuse_entry_param *given)
{
	struct fuse_entry_param entry = shown(given);

	return real_fuse_reply_entry(req, &entry);
}

EXPORT int fuse_reply_attr(fuse_req_t req, const struct stat *given, double timeout)
{
	struct stat attr = *given;

	attr.st_ino &= NUMBER_MASK;
	return real_fuse_reply_attr(req, &attr, timeout);
}

/* A plain entry: readdir makes no inode in the kernel, which would cost a FORGET later. */
EXPORT size_t fuse_add_direntry_plus(fuse_req_t req, char *buf, size_t size, const char *name,
				     const struct fuse_entry_param *given, off_t next)
{
	struct stat attr = given->attr;

	attr.st_ino &= NUMBER_MASK;
	return fuse_add_direntry(req, buf, size, name, &attr, next);
}

/* libfuse 3.14 has no field for parallel direct writes, so these answers are laid out here. */
static struct fuse_open_out parallel_open(const struct fuse_file_info *fi)
{
	struct fuse_open_out out = {.fh = fi->fh, .open_flags = FOPEN_PARALLEL_DIRECT_WRITES};

	out.open_flags |= fi->direct_io ? FOPEN_DIRECT_IO : 0;
	out.open_flags |= fi->keep_cache ? FOPEN_KEEP_CACHE : 0;
	out.open_flags |= fi->nonseekable ? FOPEN_NONSEEKABLE : 0;
	out.open_flags |= fi->noflush ? FOPEN_NOFLUSH : 0;
	return out;
}

EXPORT int fuse_reply_open(fuse_req_t req, const struct fuse_file_info *given)
{
	struct fuse_file_info fi = *given;

	fi.noflush = (fi.fh & FH_NOFLUSH) != 0;
	if (!(fi.fh & FH_PARALLEL))
		return real_fuse_reply_open(req, &fi);
	struct fuse_open_out out = parallel_open(&fi);
	return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

/* A directory entry with attributes begins with the same structure as the answer to create. */
static int create_parallel(fuse_req_t req, const struct fuse_entry_param *entry,
			   const struct fuse_file_info *fi)
{
	char answer[sizeof(struct fuse_direntplus) + sizeof(struct fuse_open_out)];
	struct fuse_open_out out = parallel_open(fi);

	real_fuse_add_direntry_plus(req, answer, sizeof(answer), "", entry, 0);
	memcpy(answer + sizeof(struct fuse_entry_out), &out, sizeof(out));
	return fuse_reply_buf(req, answer, sizeof(struct fuse_entry_out) + sizeof(out));
}

EXPORT int fuse_reply_create(fuse_req_t req, const struct fuse_entry_param *given,
			     const struct fuse_file_info *given_fi)
{
	struct fuse_entry_param entry = shown(given);
	struct fuse_file_info fi = *given_fi;

	fi.noflush = (fi.fh & FH_NOFLUSH) != 0;
	if (fi.fh & FH_PARALLEL)
		return create_parallel(req, &entry, &fi);
	return real_fuse_reply_create(req, &entry, &fi);
}

/* ---- the Python module ---- */

static PyObject *module_installed(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
	return PyBool_FromLong(session_made);
}

/* Takes the place of what was registered; None is nothing. */
static void replace(PyObject **slot, PyObject *value)
{
	Py_XSETREF(*slot, value == Py_None ? NULL : Py_NewRef(value));
}

static PyObject *module_handlers(PyObject *Py_UNUSED(self), PyObject *args, PyObject *kwargs)
{
	static char *names[] = {"write", "lock", "read", "interrupted", NULL};
	PyObject *write = Py_None, *lock = Py_None, *read = Py_None, *list = Py_None;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO", names, &write, &lock, &read,
					 &list))
		return NULL;
	if (list != Py_None && !PyList_CheckExact(list)) {
		PyErr_SetString(PyExc_TypeError, "interrupted must be a list");
		return NULL;
	}
	replace(&write_handler, write);
	replace(&lock_handler, lock);
	replace(&read_handler, read);
	replace(&interrupted_list, list);
	Py_RETURN_NONE;
}

static PyObject *module_caller(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
	return Py_BuildValue("(IIII)", current.pid, current.uid, current.gid, current.umask);
}

static PyObject *module_current_fh(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
	if (!current.has_fh)
		Py_RETURN_NONE;
	return PyLong_FromUnsignedLongLong(current.fh);
}

static PyObject *module_current_offset(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
	return PyLong_FromUnsignedLongLong(current.offset);
}

static PyObject *module_current_lock_owner(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
	return PyLong_FromUnsignedLongLong(current.lock_owner);
}

/* Reading the turn begins a new streak unless the loop is told to go on. */
static PyObject *module_turn(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
	if (kept_size)
		turn = TURN_GO_ON;
	if (turn != TURN_GO_ON)
		streak = 0;
	return PyLong_FromLong(turn);
}

static enum turn serve(void)
{
	for (unsigned n = 0; session_now && !kept_size && n < STREAK; n++) {
		int res = real_fuse_session_receive_buf(session_now, &kept);

		if (res == -EAGAIN)
			return TURN_DRAINED;
		if (res <= 0) /* pyfuse3 will find the same */
			return TURN_REST;
		if (!is_ours(&kept)) {
			kept_size = res;
			break;
		}
		fuse_session_process_buf(session_now, &kept);
		if (interrupted_list && PyList_GET_SIZE(interrupted_list))
			return TURN_REST;
	}
	return kept_size ? TURN_GO_ON : TURN_REST;
}

/* Handles what can be read without pyfuse3, up to the first request that it must see. */
static PyObject *module_serve(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
	return PyLong_FromLong(serve());
}

static PyMethodDef module_methods[] = {
	{"installed", module_installed, METH_NOARGS, NULL},
	{"handlers", (PyCFunction)(void (*)(void))module_handlers,
	 METH_VARARGS | METH_KEYWORDS, NULL},
	{"caller", module_caller, METH_NOARGS, NULL},
	{"current_fh", module_current_fh, METH_NOARGS, NULL},
	{"current_offset", module_current_offset, METH_NOARGS, NULL},
	{"current_lock_owner", module_current_lock_owner, METH_NOARGS, NULL},
	{"turn", module_turn, METH_NOARGS, NULL},
	{"serve", module_serve, METH_NOARGS, NULL},
	{NULL},
};

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "clufs.fuse._lowlevel",
	.m_size = -1,
	.m_methods = module_methods,
};

#define FIND_REAL(name) {#name, &real_##name},

static int find_real(void)
{
	static const struct { const char *name; void *slot; } wanted[] = {TAKEN_OVER(FIND_REAL)};
	void *libfuse = dlopen("libfuse3.so.3", RTLD_LAZY);

	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
		void *symbol = libfuse ? dlsym(libfuse, wanted[i].name) : NULL;
		if (!symbol) {
			PyErr_Format(PyExc_ImportError, "libfuse3.so.3 has no %s", wanted[i].name);
			return -1;
		}
		*(void **)wanted[i].slot = symbol;
	}
	return 0;
}

/*
 * Python loads extensions for themselves alone; the functions above must be found by everybody
 * that is loaded after this, before libfuse's.
 */
static int go_global(void)
{
	Dl_info here;

	if (dladdr(&module, &here) && dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL))
		return 0;
	PyErr_SetString(PyExc_ImportError, "the extension's names cannot be made global");
	return -1;
}

static int add_constants(PyObject *self)
{
	return PyModule_AddObjectRef(self, "Request", (PyObject *)&RequestType) ||
	       PyModule_AddObject(self, "NOFLUSH", PyLong_FromUnsignedLongLong(FH_NOFLUSH)) ||
	       PyModule_AddObject(self, "PARALLEL", PyLong_FromUnsignedLongLong(FH_PARALLEL)) ||
	       PyModule_AddObject(self, "BLOCKING", PyLong_FromUnsignedLongLong(FH_BLOCKING)) ||
	       PyModule_AddIntConstant(self, "FLOCK", OP_FLOCK) ||
	       PyModule_AddIntConstant(self, "SETLK", OP_SETLK) ||
	       PyModule_AddIntConstant(self, "GETLK", OP_GETLK) ||
	       PyModule_AddIntConstant(self, "GO_ON", TURN_GO_ON) ||
	       PyModule_AddIntConstant(self, "DRAINED", TURN_DRAINED) ||
	       PyModule_AddIntConstant(self, "REST", TURN_REST);
}

EXPORT PyObject *PyInit__lowlevel(void)
{
	if (go_global() < 0 || find_real() < 0 || PyType_Ready(&RequestType) < 0)
		return NULL;
	PyObject *self = PyModule_Create(&module);
	if (self && add_constants(self))
		Py_CLEAR(self);
	return self;
}
