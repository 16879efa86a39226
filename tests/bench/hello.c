/*
 * The yardstick of the benchmarks: what a FUSE file system in C costs with one thread.
 *
 * hello MOUNTPOINT: a directory with the files hello0, hello1 and so on, which take any write (direct
 * I/O, entries not cached) and read as one line. Each is an inode of its own: the kernel writes to
 * one inode at a time, and many clients on one would measure that. Only hello0 is listed. Like the
 * bare pyfuse3 file system it has no flush. Runs in the foreground until unmounted.
 * Build: cc -O2 hello.c -o hello $(pkg-config --cflags --libs fuse3)
 */

#define FUSE_USE_VERSION 32
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_INO 2
#define PREFIX "hello"
#define TEXT "hello\n"

static struct stat attributes(fuse_ino_t ino)
{
	if (ino == FUSE_ROOT_ID)
		return (struct stat){.st_ino = ino, .st_mode = S_IFDIR | 0755, .st_nlink = 2};
	return (struct stat){.st_ino = ino, .st_mode = S_IFREG | 0666, .st_nlink = 1};
}

/* The entry of a name; its inode is 0 where there is no such file. */
static struct fuse_entry_param entry(fuse_ino_t parent, const char *name)
{
	size_t prefix = strlen(PREFIX);
	fuse_ino_t ino = 0;

	if (parent == FUSE_ROOT_ID && strncmp(name, PREFIX, prefix) == 0)
		ino = FIRST_INO + strtoul(name + prefix, NULL, 10);
	return (struct fuse_entry_param){.ino = ino, .attr = attributes(ino)};
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param found = entry(parent, name);

	if (found.ino)
		fuse_reply_entry(req, &found);
	else
		fuse_reply_err(req, ENOENT);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = attributes(ino);

	(void)fi;
	fuse_reply_attr(req, &st, 0);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *given, int fields,
		       struct fuse_file_info *fi)
{
	(void)given;
	(void)fields;
	op_getattr(req, ino, fi);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->direct_io = 1;
	fuse_reply_open(req, fi);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct fuse_entry_param found = entry(parent, name);

	(void)mode;
	fi->direct_io = 1;
	if (found.ino)
		fuse_reply_create(req, &found, fi);
	else
		fuse_reply_err(req, EPERM);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	(void)ino;
	(void)data;
	(void)offset;
	(void)fi;
	fuse_reply_write(req, size);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	size_t length = strlen(TEXT);
	size_t from = (size_t)offset < length ? (size_t)offset : length;
	size_t rest = length - from;

	(void)ino;
	(void)fi;
	fuse_reply_buf(req, TEXT + from, rest < size ? rest : size);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, 0);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		       struct fuse_file_info *fi)
{
	struct stat st = attributes(FIRST_INO);
	char buf[256];
	size_t length = 0;

	(void)ino;
	(void)fi;
	if (offset == 0)
		length = fuse_add_direntry(req, buf, sizeof(buf), PREFIX "0", &st, 1);
	fuse_reply_buf(req, buf, length <= size ? length : 0);
}

static const struct fuse_lowlevel_ops operations = {
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.open = op_open,
	.create = op_create,
	.write = op_write,
	.read = op_read,
	.release = op_release,
	.readdir = op_readdir,
};

static int serve(struct fuse_args *args, const char *mountpoint)
{
	struct fuse_session *session =
		fuse_session_new(args, &operations, sizeof(operations), NULL);
	int res = -1;

	if (!session)
		return EXIT_FAILURE;
	if (fuse_set_signal_handlers(session) == 0 && fuse_session_mount(session, mountpoint) == 0) {
		res = fuse_session_loop(session);
		fuse_session_unmount(session);
	}
	fuse_remove_signal_handlers(session);
	fuse_session_destroy(session);
	return res == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	char *words[] = {argv[0], "-o", "fsname=hello,allow_other"};
	struct fuse_args args = FUSE_ARGS_INIT(3, words);

	if (argc != 2) {
		fprintf(stderr, "usage: hello MOUNTPOINT\n");
		return 2;
	}
	return serve(&args, argv[1]);
}
