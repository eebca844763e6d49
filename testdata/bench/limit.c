/* limit measures the cost of the disk and the kernel: it makes the system calls
 * of pika-cloud-lifecycle in the same order, and does not parse, check or repair
 * anything.
 *
 *     limit event DIR      append one event, as one process
 *     limit ingest DIR     read lines until the end, commit what has arrived
 *
 * Each line grows by EXTRA bytes on disk, as a directive does, so that both
 * programs write the same amount.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ = 1 << 20, EXTRA = 138 };

static char in[READ], out[4 * READ];
static int dir, seq, events, n;

static void must(long result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
}

/* status replaces status.json. */
static void status(void)
{
	static const char text[] = "{\n  \"schema_version\": 1,\n  \"state\": \"ready\"\n}\n";
	int fd = openat(dir, ".status.json1", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	must(fd, "open temporary");
	must(fchmod(fd, 0644), "fchmod");
	must(flock(fd, LOCK_EX | LOCK_NB), "flock temporary");
	must(write(fd, text, sizeof text - 1), "write temporary");
	must(fsync(fd), "fsync");
	must(renameat(dir, ".status.json1", dir, "status.json"), "rename");
	must(close(fd), "close");
	must(fsync(dir), "fsync directory");
}

/* commit appends size bytes of events under the lock. */
static void commit(size_t size, int whole)
{
	struct stat st;
	char text[24];
	must(flock(seq, LOCK_EX), "flock");
	must(fstatat(dir, "events.jsonl.seq", &st, 0), "stat seq");
	must(flock(events, LOCK_EX | LOCK_NB), "flock events");
	must(fstatat(dir, "events.jsonl", &st, 0), "stat events");
	int length = snprintf(text, sizeof text, "%d\n", n += 1);
	must(pwrite(seq, text, length, 0), "write seq");
	must(fdatasync(seq), "sync seq");
	must(write(events, out, size), "write events");
	must(fdatasync(events), "sync events");
	if (whole)
		status();
	must(flock(events, LOCK_UN), "unlock events");
	must(flock(seq, LOCK_UN), "unlock");
}

/* commit_lines commits the lines in the buffer, each EXTRA bytes longer. */
static void commit_lines(size_t size)
{
	size_t end = 0;
	for (char *line = in, *stop = in + size; line < stop;) {
		char *next = memchr(line, '\n', stop - line);
		next = next ? next + 1 : stop;
		memset(out + end, ' ', EXTRA);
		memcpy(out + end + EXTRA, line, next - line);
		end += EXTRA + (next - line);
		line = next;
		if (end >= 2 * READ) {
			commit(end, 1);
			end = 0;
		}
	}
	if (end)
		commit(end, 1);
}

static void ingest(void)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};
	fcntl(0, F_SETPIPE_SZ, READ);
	for (;;) {
		must(poll(&input, 1, -1), "poll");
		ssize_t size = read(0, in, READ);
		must(size, "read");
		if (size == 0)
			return;
		commit_lines(size);
	}
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fputs("usage: limit event|ingest DIR\n", stderr);
		return 2;
	}
	mkdir(argv[2], 0755);
	must(dir = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open directory");
	must(seq = openat(dir, "events.jsonl.seq", O_RDWR | O_CREAT | O_CLOEXEC, 0600), "open seq");
	must(events = openat(dir, "events.jsonl", O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644), "open events");
	if (strcmp(argv[1], "ingest") == 0)
		ingest();
	else {
		memset(out, ' ', 2 * EXTRA);
		commit(2 * EXTRA, 0);
	}
	return 0;
}
