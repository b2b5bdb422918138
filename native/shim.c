/*
 * The per-container monitor: one small process that outlives the daemon, owns the container's stdio, reaps it and
 * remembers how it ended. Mechanism only; every decision (restart, timeouts, what a message means to a user) is the
 * daemon's. The protocol, the files in the state directory and the rules for slow readers: docs/shim-protocol.md.
 *
 * One thread, one epoll loop, nothing in it blocks (the exit record's fsync excepted, at the very end). The OCI runtime
 * always runs as a child that is waited for through signalfd. A "task" is the container's init or one exec.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "buffer.h"
#include "frame.h"
#include "jsonlog.h"

#define PROTOCOL_VERSION 1
#define READ_BYTES (64 * 1024)
#define QUEUE_HIGH (1024 * 1024) /* a client's queue above this stops reading the container's output */
#define QUEUE_LOW (QUEUE_HIGH / 2)
#define QUEUE_LIMIT (4 * QUEUE_HIGH) /* output after the exit may pass QUEUE_HIGH, never this */
#define LOG_BATCH_BYTES (64 * 1024)
#define ERROR_TEXT_BYTES (16 * 1024)
#define ATTACH_MAX 64
#define EXEC_MAX 256
#define CONTROL_MAX 16
#define CLIENT_MAX (ATTACH_MAX + EXEC_MAX + 2 * CONTROL_MAX) /* the rest: connections that did not say hello yet */
#define TASK_MAX (1 + EXEC_MAX)                              /* slot 0 is init */
#define ENDED_EXEC_MAX 64
#define ORPHAN_MAX 512
#define RUNTIME_OPTION_MAX 32
#define DRAIN_MS 2000           /* output that is still open this long after the exit is given up, as moby does */
#define OOM_RECHECK_MS 1000     /* on v1 the event comes before the kill is counted */
#define DELETE_MS 60000         /* a runtime that cannot delete in this time is killed, and the daemon told */
#define LAST_WORDS_MS 2000      /* what a control connection gets to take the last lines */
#define DROP_REPORT_MS 1000
#define TICK_MS 20

enum kind { ON_SIGNAL = 1, ON_LISTENER, ON_OOM, ON_CLIENT, ON_STDIN, ON_STDOUT, ON_STDERR, ON_CONSOLE };
enum { MASK_STDIN = 1, MASK_STDOUT = 2, MASK_STDERR = 4, MASK_OUTPUT = 6 };

/* A descriptor in the epoll set. The generation in the tag tells late events for a slot's former owner. */
struct channel {
	int fd;
	uint32_t events;
	uint64_t tag;
};

enum role { ROLE_NEW, ROLE_ATTACH, ROLE_EXEC, ROLE_CONTROL };

struct client {
	struct channel channel; /* fd -1: the slot is free */
	enum role role;
	struct task *task; /* of ROLE_ATTACH and ROLE_EXEC, while it lives */
	uint8_t mask;
	bool blocked; /* not read, because the task's stdin is full */
	bool ending;    /* takes nothing new; half-closed as soon as the queue is empty */
	bool farewell;  /* half-closed: what the peer still sends is thrown away until it closes too */
	bool was_stdin; /* its EOF was handled already */
	struct frame_reader frames;
	struct buffer queue;
	long long progress_ms; /* when the queue last shrank (or began) */
};

enum phase { TASK_FREE, TASK_STARTING, TASK_RUNNING, TASK_EXITED };
enum stdin_mode { STDIN_NONE, STDIN_OPEN, STDIN_ONCE };

struct task {
	enum phase phase;
	unsigned slot;
	char id[129];
	bool tty, paused, hung_up;
	enum stdin_mode stdin_mode;
	struct winsize size;
	pid_t runtime_pid, pid;
	unsigned long orphans_before; /* orphan_count when the runtime was started */
	int runtime_stderr;           /* of a tty's runtime; otherwise that is the task's stderr */
	struct channel in, out[2];    /* a tty's master is out[0], and `in` is not used */
	struct channel console;       /* listening socket, then the runtime's connection, until the master came */
	bool console_connected;
	struct buffer stdin_queue;
	bool stdin_eof;
	struct client *client; /* of an exec, until its answer was given */
	char process_path[4096];
	int code, signal;
	struct timespec started_at, exited_at;
	long long exited_ms;
};

enum stage { STAGE_ALIVE, STAGE_DELETING, STAGE_LINGERING };

static struct {
	const char *id, *state, *bundle, *runtime, *runtime_root, *cgroup;
	const char *options[RUNTIME_OPTION_MAX];
	int option_count, stall_ms;
	long run;
	const char *log_path, *log_attributes;
	long long log_max_size;
	int log_max_files;
} config = {.stall_ms = 10000, .log_attributes = "", .log_max_files = 1};

static struct client clients[CLIENT_MAX];
static unsigned client_top; /* slots from here on were never used, and their memory never touched */
static struct task *tasks[TASK_MAX];
static struct task init = {.slot = 0};
static int epoll_fd = -1, state_fd = -1, null_fd = -1;
static struct channel signals = {.fd = -1}, listener = {.fd = -1}, oom_channel = {.fd = -1};
static enum stage stage;
static uint32_t generations;
static struct buffer failure; /* the JSON line of a failed start, kept until nothing is left behind */
static pid_t delete_pid;
static bool delete_wanted; /* the runtime was started, and the container's id was not taken before */
static long long delete_started_ms, last_words_ms;
static uint8_t output_bytes[READ_BYTES], input_bytes[READ_BYTES];

static long long now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* ---- descriptors ------------------------------------------------------------------------------------------------ */

static uint64_t tag_of(enum kind kind, unsigned slot)
{
	return (uint64_t)kind << 56 | (uint64_t)(slot & 0xFFFFFF) << 32 | ++generations;
}

static void channel_open(struct channel *c, int fd, enum kind kind, unsigned slot)
{
	*c = (struct channel){.fd = fd, .tag = tag_of(kind, slot)};
}

/* With no events the descriptor leaves the set altogether: epoll reports EPOLLHUP whether asked for or not. */
static void channel_watch(struct channel *c, uint32_t events)
{
	if (c->fd < 0 || c->events == events) return;
	int operation = events == 0 ? EPOLL_CTL_DEL : c->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
	struct epoll_event event = {.events = events, .data.u64 = c->tag};
	if (epoll_ctl(epoll_fd, operation, c->fd, &event) == 0) c->events = events;
}

static void channel_close(struct channel *c)
{
	if (c->fd < 0) return;
	channel_watch(c, 0);
	close(c->fd);
	c->fd = -1;
}

static void set_nonblocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* Appends at most `limit` bytes from the end of a file in the state directory. */
static void append_file_tail(struct buffer *out, const char *name, off_t limit)
{
	int fd = openat(state_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) return;
	struct stat st;
	if (fstat(fd, &st) == 0 && st.st_size > limit) lseek(fd, -limit, SEEK_END);
	uint8_t bytes[1024];
	ssize_t n;
	while (limit > 0 && (n = read(fd, bytes, sizeof bytes)) > 0) {
		if (n > limit) n = limit;
		limit -= n;
		buffer_append(out, bytes, (size_t)n);
	}
	close(fd);
}

/* Reads a small file whole; an absent one reads as empty. */
static void read_text(int directory, const char *name, char *text, size_t size)
{
	text[0] = 0;
	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0) return;
	ssize_t n = read(fd, text, size - 1);
	text[n > 0 ? n : 0] = 0;
	close(fd);
}

/* Whole or not at all, also after a crash. `sync`: and on disk before this returns. */
static bool write_file(const char *name, const void *bytes, size_t length, bool sync)
{
	char temporary[64];
	snprintf(temporary, sizeof temporary, "%s.tmp", name);
	int fd = openat(state_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) return false;
	bool ok = write(fd, bytes, length) == (ssize_t)length && (!sync || fsync(fd) == 0);
	close(fd);
	ok = ok && renameat(state_fd, temporary, state_fd, name) == 0;
	if (!ok) unlinkat(state_fd, temporary, 0);
	if (ok && sync) fsync(state_fd);
	return ok;
}

/* ---- clients ---------------------------------------------------------------------------------------------------- */

static void task_watch(struct task *t);
static void stdin_client_left(struct task *t);

static void client_close(struct client *c)
{
	struct task *t = c->task;
	channel_close(&c->channel);
	frame_reader_free(&c->frames);
	buffer_free(&c->queue);
	c->task = NULL;
	if (!t) return;
	if (t->client == c) t->client = NULL;
	if (c->mask & MASK_STDIN && !c->was_stdin) stdin_client_left(t);
	task_watch(t); /* it may have been the one that held back the output */
}

static void client_watch(struct client *c)
{
	uint32_t events = 0;
	if ((!c->blocked && !c->ending) || c->farewell) events |= EPOLLIN;
	if (c->queue.length > 0) events |= EPOLLOUT;
	/* one that is blocked or ending still tells, once, when its peer is gone */
	channel_watch(&c->channel, events ? events : EPOLLRDHUP | EPOLLET);
}

static void client_flush(struct client *c)
{
	while (c->queue.length > 0) {
		ssize_t n = send(c->channel.fd, buffer_bytes(&c->queue), c->queue.length, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR) continue;
		if (n < 0 && errno == EAGAIN) break;
		if (n < 0) {
			client_close(c);
			return;
		}
		buffer_consume(&c->queue, (size_t)n);
		c->progress_ms = now_ms();
	}
	if (c->ending && !c->farewell && c->queue.length == 0) {
		/* closing with stdin still unread would reset the connection, and a peer may lose what it did not read */
		c->farewell = true;
		shutdown(c->channel.fd, SHUT_WR);
	}
	client_watch(c);
	if (c->task && c->task->paused && c->queue.length < QUEUE_LOW) task_watch(c->task);
}

/* Queues bytes; whoever lets its queue pass the limit is closed. client_flush sends. */
static void client_queue(struct client *c, const void *bytes, size_t length)
{
	if (c->channel.fd < 0 || c->ending || length == 0) return;
	size_t limit = c->role == ROLE_CONTROL ? QUEUE_HIGH : QUEUE_LIMIT;
	if (c->queue.length == 0) c->progress_ms = now_ms();
	if (c->queue.length + length > limit || !buffer_append(&c->queue, bytes, length)) client_close(c);
}

/* Sends a header and its bytes, straight from where they are as long as the client keeps up. */
static void client_send(struct client *c, const uint8_t *header, size_t header_length, const uint8_t *bytes,
			size_t length)
{
	if (c->channel.fd < 0 || c->ending) return;
	size_t sent = 0;
	if (c->queue.length == 0) {
		struct iovec parts[2] = {{(void *)header, header_length}, {(void *)bytes, length}};
		struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
		ssize_t n = sendmsg(c->channel.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) sent = (size_t)n;
	}
	size_t of_header = sent < header_length ? sent : header_length;
	client_queue(c, header + of_header, header_length - of_header);
	client_queue(c, bytes + (sent - of_header), length - (sent - of_header));
	if (c->channel.fd >= 0) client_watch(c);
}

static void client_end(struct client *c)
{
	if (c->channel.fd < 0) return;
	c->ending = true;
	client_flush(c);
}

static struct client *client_add(int fd, enum role role)
{
	for (unsigned i = 0; i < CLIENT_MAX; i++) {
		struct client *c = &clients[i];
		if (i < client_top && c->channel.fd >= 0) continue;
		if (i == client_top) client_top++;
		*c = (struct client){.role = role, .progress_ms = now_ms()};
		channel_open(&c->channel, fd, ON_CLIENT, i);
		client_watch(c);
		return c;
	}
	return NULL;
}

static unsigned clients_of(enum role role)
{
	unsigned count = 0;
	for (unsigned i = 0; i < client_top; i++) count += clients[i].channel.fd >= 0 && clients[i].role == role;
	return count;
}

/* A full table: takes away one that waits for a container that does not read, and whose peer has long gone. */
static void client_evict_gone(void)
{
	for (unsigned i = 0; i < client_top; i++) {
		struct pollfd p = {.fd = clients[i].channel.fd};
		if (p.fd >= 0 && clients[i].blocked && poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR)) {
			client_close(&clients[i]);
			return;
		}
	}
}

static void control_broadcast(const struct buffer *line)
{
	for (unsigned i = 0; i < client_top; i++) {
		if (clients[i].channel.fd < 0 || clients[i].role != ROLE_CONTROL) continue;
		client_queue(&clients[i], buffer_bytes(line), line->length);
		if (clients[i].channel.fd >= 0) client_flush(&clients[i]);
	}
}

/* Sends one JSON line to all control connections and forgets it. */
__attribute__((format(printf, 1, 2))) static void report(const char *format, ...)
{
	char line[1024];
	va_list arguments;
	va_start(arguments, format);
	int n = vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	if (n < 0 || n >= (int)sizeof line) return;
	control_broadcast(&(struct buffer){.data = (uint8_t *)line, .length = (size_t)n});
}

/* ---- the log file ----------------------------------------------------------------------------------------------- */

static struct {
	int fd;
	off_t size; /* of the file, the batch not counted */
	struct buffer batch;
	struct line_splitter streams[2];
	unsigned long long dropped, dropped_reported;
	long long reported_ms;
} logger = {.fd = -1};

static const char *stream_names[2] = {"stdout", "stderr"};

static bool log_open(int flags)
{
	logger.fd = open(config.log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | flags, 0640);
	if (logger.fd < 0) return false;
	struct stat st;
	logger.size = fstat(logger.fd, &st) == 0 ? st.st_size : 0;
	return true;
}

/* Writes the batch. What does not fit on the disk is dropped and counted, and no half line stays in the file. */
static void log_flush(void)
{
	struct buffer *batch = &logger.batch;
	if (batch->length == 0) return;
	if (logger.fd < 0) log_open(0);
	size_t written = 0;
	while (logger.fd >= 0 && written < batch->length) {
		ssize_t n = write(logger.fd, buffer_bytes(batch) + written, batch->length - written);
		if (n < 0 && errno == EINTR) continue;
		if (n <= 0) break;
		written += (size_t)n;
	}
	if (written < batch->length) {
		const uint8_t *newline = written > 0 ? memrchr(buffer_bytes(batch), '\n', written) : NULL;
		size_t whole = newline ? (size_t)(newline - buffer_bytes(batch)) + 1 : 0;
		if (whole < written && ftruncate(logger.fd, logger.size + (off_t)whole) == 0) written = whole;
		logger.dropped += batch->length - written;
	}
	logger.size += (off_t)written;
	buffer_consume(batch, batch->length);
}

/* path -> path.1 -> path.2 …; the daemon may have compressed old ones to path.N.gz. */
static void log_rotate(void)
{
	char from[PATH_MAX + 32], to[PATH_MAX + 32];
	log_flush();
	if (logger.fd >= 0) close(logger.fd);
	for (int i = config.log_max_files - 1; i >= 2; i--) {
		for (int compressed = 0; compressed < 2; compressed++) {
			const char *suffix = compressed ? ".gz" : "";
			snprintf(from, sizeof from, "%s.%d%s", config.log_path, i - 1, suffix);
			snprintf(to, sizeof to, "%s.%d%s", config.log_path, i, suffix);
			if (rename(from, to) != 0) unlink(to);
		}
	}
	snprintf(to, sizeof to, "%s.1", config.log_path);
	if (config.log_max_files >= 2) rename(config.log_path, to);
	else unlink(config.log_path); /* a reader that follows keeps the old file; the new one has another inode */
	log_open(O_TRUNC);
}

static void log_emit(void *context, const uint8_t *line, size_t n, bool newline, struct timespec at)
{
	struct buffer *batch = &logger.batch;
	size_t before = batch->length;
	if (!jsonlog_entry(batch, context, line, n, newline, config.log_attributes, at)) {
		logger.dropped += n;
		return;
	}
	size_t entry = batch->length - before;
	off_t ahead = logger.size + (off_t)before;
	if (config.log_max_size > 0 && ahead > 0 && ahead + (off_t)entry > config.log_max_size) {
		/* the entry just made belongs into the next file: hold it back over the rotation */
		struct buffer held = {0};
		bool kept = buffer_append(&held, buffer_bytes(batch) + before, entry);
		batch->length = before;
		log_rotate();
		if (!kept || !buffer_append(batch, held.data, held.length)) logger.dropped += entry;
		buffer_free(&held);
	}
	if (batch->length >= LOG_BATCH_BYTES) log_flush();
}

static void log_output(int stream, const uint8_t *bytes, size_t length)
{
	if (config.log_path)
		splitter_feed(&logger.streams[stream], bytes, length, log_emit, (void *)stream_names[stream]);
}

static void log_end_stream(int stream)
{
	if (config.log_path) splitter_flush_piece(&logger.streams[stream], log_emit, (void *)stream_names[stream]);
}

static void log_report_dropped(bool now)
{
	if (logger.dropped == logger.dropped_reported) return;
	if (!now && now_ms() - logger.reported_ms < DROP_REPORT_MS) return;
	report("{\"event\":\"log-dropped\",\"bytes\":%llu}\n", logger.dropped - logger.dropped_reported);
	logger.dropped_reported = logger.dropped;
	logger.reported_ms = now_ms();
}

/* ---- the task's streams ----------------------------------------------------------------------------------------- */

static bool client_takes_output(const struct client *c, const struct task *t)
{
	return c->channel.fd >= 0 && c->task == t && !c->ending && c->mask & MASK_OUTPUT;
}

/* True while a reader of this task has more queued than it may have. */
static bool task_output_blocked(const struct task *t)
{
	if (t->phase == TASK_EXITED) return false; /* what is left in the pipes is bounded; take it all */
	size_t mark = t->paused ? QUEUE_LOW : QUEUE_HIGH;
	for (unsigned i = 0; i < client_top; i++)
		if (client_takes_output(&clients[i], t) && clients[i].queue.length >= mark) return true;
	return false;
}

/* Brings the epoll set in line with what the task may do now. */
static void task_watch(struct task *t)
{
	if (t->phase == TASK_FREE) return;
	t->paused = task_output_blocked(t);
	/* until the runtime has ended its stderr is ours, not the container's output: leave all in the pipes */
	uint32_t read_events = t->phase == TASK_STARTING || t->paused ? 0 : EPOLLIN;
	uint32_t write_events = t->stdin_queue.length > 0 ? EPOLLOUT : 0;
	if (t->tty) {
		/* nobody has the slave open: level triggered this would spin until someone opens it again */
		uint32_t edge = t->hung_up && read_events ? EPOLLET : 0;
		channel_watch(&t->out[0], read_events | write_events | edge);
		return;
	}
	channel_watch(&t->out[0], read_events);
	channel_watch(&t->out[1], read_events);
	channel_watch(&t->in, write_events);
}

/* Passes output on as Docker frames it for attach: [stream][0][0][0][u32 be length]; a tty's is raw. */
static void task_fan_out(struct task *t, int stream, const uint8_t *bytes, size_t length)
{
	uint8_t header[8] = {(uint8_t)(stream + 1), 0, 0, 0, (uint8_t)(length >> 24), (uint8_t)(length >> 16),
			     (uint8_t)(length >> 8), (uint8_t)length};
	uint8_t wanted = stream == 0 ? MASK_STDOUT : MASK_STDERR;
	bool blocked = false;
	for (unsigned i = 0; i < client_top; i++) {
		struct client *c = &clients[i];
		if (!client_takes_output(c, t) || !(c->mask & wanted)) continue;
		client_send(c, header, t->tty ? 0 : sizeof header, bytes, length);
		blocked |= c->queue.length >= QUEUE_HIGH;
	}
	if (blocked) task_watch(t);
}

/* Reads once. False when there is nothing more to be had for now. */
static bool task_read_output(struct task *t, int stream)
{
	struct channel *channel = &t->out[stream];
	if (channel->fd < 0) return false;
	ssize_t n = read(channel->fd, output_bytes, sizeof output_bytes);
	if (n < 0 && errno == EINTR) return true;
	if (n < 0 && errno == EAGAIN) return false;
	if (n > 0) {
		if (t->hung_up) {
			t->hung_up = false;
			task_watch(t);
		}
		if (t == &init) log_output(stream, output_bytes, (size_t)n);
		task_fan_out(t, stream, output_bytes, (size_t)n);
		return true;
	}
	if (t->tty && t->phase != TASK_EXITED) { /* EIO: the slave is closed, but may be opened again */
		t->hung_up = true;
		task_watch(t);
		return false;
	}
	if (t == &init) log_end_stream(stream);
	channel_close(channel);
	return false;
}

static void task_close_stdin(struct task *t)
{
	t->stdin_eof = true;
	if (t->stdin_queue.length == 0) channel_close(&t->in);
}

/* Writes what it can; when all is written, clients that waited for it are read again. */
static void task_flush_stdin(struct task *t)
{
	int fd = t->tty ? t->out[0].fd : t->in.fd;
	while (fd >= 0 && t->stdin_queue.length > 0) {
		ssize_t n = write(fd, buffer_bytes(&t->stdin_queue), t->stdin_queue.length);
		if (n < 0 && errno == EINTR) continue;
		if (n < 0 && errno == EAGAIN) break;
		if (n < 0) { /* nobody will ever read it: later stdin is taken and thrown away */
			buffer_consume(&t->stdin_queue, t->stdin_queue.length);
			if (!t->tty) channel_close(&t->in);
			break;
		}
		buffer_consume(&t->stdin_queue, (size_t)n);
	}
	task_watch(t);
	if (t->stdin_queue.length > 0) return;
	if (t->stdin_eof) channel_close(&t->in);
	for (unsigned i = 0; i < client_top; i++) {
		struct client *c = &clients[i];
		if (c->channel.fd < 0 || c->task != t || !c->blocked) continue;
		c->blocked = false;
		client_watch(c);
	}
}

/* A client that had stdin ended it or went away. What moby does: container/stream/attach.go, CopyStreams. */
static void stdin_client_left(struct task *t)
{
	if (t->stdin_mode == STDIN_ONCE && !t->tty) task_close_stdin(t);
}

static void client_stdin(struct client *c, const uint8_t *bytes, size_t length)
{
	struct task *t = c->task;
	if (!t || !(c->mask & MASK_STDIN) || c->was_stdin || t->stdin_eof || length == 0) return;
	if (t->stdin_mode == STDIN_NONE) return; /* a terminal has a way in even then; it is not asked for */
	bool open = t->tty ? t->phase == TASK_STARTING || t->out[0].fd >= 0 : t->in.fd >= 0;
	if (!open) return;
	if (!buffer_append(&t->stdin_queue, bytes, length)) {
		client_close(c); /* no memory: the client sees it, no byte is left out in the middle */
		return;
	}
	task_flush_stdin(t);
}

static void client_stdin_eof(struct client *c)
{
	struct task *t = c->task;
	if (!t || !(c->mask & MASK_STDIN) || c->was_stdin) return;
	c->was_stdin = true;
	if (t->stdin_mode == STDIN_ONCE && !t->tty) task_close_stdin(t);
	else client_end(c); /* the container's stdin stays open, and this attach is over: so it is in moby */
}

/* ---- the OOM killer --------------------------------------------------------------------------------------------- */

static struct {
	bool v2;
	char directory[PATH_MAX]; /* of the memory controller; empty: not known */
	long reported;            /* kills told already */
	long long recheck_until_ms;
} oom;

static long oom_kills(void)
{
	char path[PATH_MAX + 32], text[2048];
	if (!oom.directory[0]) return 0;
	snprintf(path, sizeof path, "%s/%s", oom.directory, oom.v2 ? "memory.events" : "memory.oom_control");
	read_text(AT_FDCWD, path, text, sizeof text);
	for (char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, "oom_kill ", 9) == 0) return atol(line + 9);
	}
	return 0;
}

static void oom_check(void)
{
	long kills = oom_kills();
	if (kills <= oom.reported) return;
	oom.reported = kills;
	report("{\"event\":\"oom\"}\n");
}

static void oom_find_cgroup(pid_t pid)
{
	char name[64], text[8192], v1[PATH_MAX] = "", v2[PATH_MAX] = "", *rest = NULL;
	snprintf(name, sizeof name, "/proc/%d/cgroup", (int)pid);
	read_text(AT_FDCWD, name, text, sizeof text);
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!path) continue;
		*path++ = 0;
		if (strcmp(controllers, ":") == 0) snprintf(v2, sizeof v2, "%s", path);
		char *inner = NULL;
		for (char *c = strtok_r(controllers + 1, ",", &inner); c; c = strtok_r(NULL, ",", &inner))
			if (strcmp(c, "memory") == 0) snprintf(v1, sizeof v1, "%s", path);
	}
	oom.v2 = !v1[0];
	const char *path = oom.v2 ? v2 : v1;
	/* a process that has ended already shows "/" on v1: take the daemon's word then */
	if ((!path[0] || strcmp(path, "/") == 0) && config.cgroup) path = config.cgroup;
	if (path[0] != '/' || !path[1]) return;
	if (access("/sys/fs/cgroup/memory/memory.oom_control", F_OK) == 0) oom.v2 = false;
	const char *mount = oom.v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
	int n = snprintf(oom.directory, sizeof oom.directory, "%s%s", mount, path);
	if (n >= (int)sizeof oom.directory) oom.directory[0] = 0;
}

static void oom_watch(pid_t pid)
{
	char path[PATH_MAX + 32], text[64];
	oom_find_cgroup(pid);
	if (!oom.directory[0]) return;
	int fd = -1;
	if (oom.v2) {
		fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		snprintf(path, sizeof path, "%s/memory.events", oom.directory);
		if (fd >= 0 && inotify_add_watch(fd, path, IN_MODIFY) < 0) close(fd), fd = -1;
	} else {
		fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		snprintf(path, sizeof path, "%s/memory.oom_control", oom.directory);
		int control = open(path, O_RDONLY | O_CLOEXEC);
		snprintf(path, sizeof path, "%s/cgroup.event_control", oom.directory);
		int registry = open(path, O_WRONLY | O_CLOEXEC);
		int n = snprintf(text, sizeof text, "%d %d", fd, control);
		bool ok = fd >= 0 && control >= 0 && registry >= 0 && write(registry, text, (size_t)n) == n;
		if (control >= 0) close(control);
		if (registry >= 0) close(registry);
		if (!ok && fd >= 0) close(fd), fd = -1;
	}
	if (fd < 0) return;
	channel_open(&oom_channel, fd, ON_OOM, 0);
	channel_watch(&oom_channel, EPOLLIN);
}

static void on_oom(void)
{
	char text[4096];
	while (read(oom_channel.fd, text, sizeof text) > 0) continue;
	oom.recheck_until_ms = now_ms() + OOM_RECHECK_MS;
	oom_check();
}

/* ---- the OCI runtime -------------------------------------------------------------------------------------------- */

/* Children whose death was seen before anyone knew their pid: an exec may end before its runtime does. */
static struct orphan {
	pid_t pid;
	int status;
	struct timespec at;
	unsigned long number;
} orphans[ORPHAN_MAX];
static unsigned long orphan_count;

static struct ended_exec {
	char id[129];
	int code;
} ended_execs[ENDED_EXEC_MAX];
static unsigned long ended_exec_count;

struct arguments {
	char *list[RUNTIME_OPTION_MAX + 32];
	int count;
};

static void arguments_add(struct arguments *a, const char *value)
{
	a->list[a->count++] = (char *)value;
	a->list[a->count] = NULL;
}

static struct arguments runtime_arguments(const char *log)
{
	struct arguments a = {.count = 0};
	arguments_add(&a, config.runtime);
	if (config.runtime_root) {
		arguments_add(&a, "--root");
		arguments_add(&a, config.runtime_root);
	}
	arguments_add(&a, "--log");
	arguments_add(&a, log);
	arguments_add(&a, "--log-format");
	arguments_add(&a, "json");
	for (int i = 0; i < config.option_count; i++) arguments_add(&a, config.options[i]);
	return a;
}

/* vfork: the shim's memory is never copied. The child gets back what the shim changed for itself. */
static pid_t runtime_spawn(const struct arguments *a, int in, int out, int err)
{
	pid_t pid = vfork();
	if (pid != 0) return pid;
	static const int ignored[] = {SIGHUP, SIGTERM, SIGINT, SIGPIPE};
	for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_DFL);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (score >= 0) {
		ssize_t ignore = write(score, "0", 1);
		(void)ignore;
	}
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	execvp(a->list[0], a->list);
	_exit(errno == ENOENT ? 127 : 126);
}

static void task_file(const struct task *t, const char *suffix, char *name, size_t size)
{
	if (t == &init) snprintf(name, size, "%s%s", suffix[0] == 'l' ? "runtime." : "init.", suffix);
	else snprintf(name, size, "exec-%u.%s", t->slot, suffix);
}

static void task_unlink_files(const struct task *t, bool process_too)
{
	static const char *suffixes[] = {"log", "pid", "console"};
	char name[64];
	for (unsigned i = 0; i < 3; i++) {
		task_file(t, suffixes[i], name, sizeof name);
		unlinkat(state_fd, name, 0);
	}
	if (process_too && t->process_path[0]) unlink(t->process_path);
}

/* A listening socket in the state directory, whatever that path's length: sun_path holds 108 bytes. */
static int listen_on(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", state_fd, name);
	unlinkat(state_fd, name, 0);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) return -1;
	mode_t mask = umask(0177);
	bool ok = bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 128) == 0;
	umask(mask);
	if (ok) return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* A container of this id that is there already is somebody else's: our failed start must not delete it. */
static bool runtime_knows_id(void)
{
	char path[PATH_MAX + 160];
	if (!config.runtime_root) return false;
	snprintf(path, sizeof path, "%s/%s", config.runtime_root, config.id);
	return access(path, F_OK) == 0;
}

/* Starts `run` (init) or `exec` with fresh stdio. False: errno says why, nothing was left open. */
static bool task_launch(struct task *t)
{
	int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
	char log[PATH_MAX + 64], pid_file[PATH_MAX + 64], console[128], name[64];
	task_unlink_files(t, false); /* of an earlier task in this slot */
	task_file(t, "log", name, sizeof name);
	snprintf(log, sizeof log, "%s/%s", config.state, name);
	task_file(t, "pid", name, sizeof name);
	snprintf(pid_file, sizeof pid_file, "%s/%s", config.state, name);
	if (pipe2(err, O_CLOEXEC) != 0) goto failed;
	if (t->tty) {
		task_file(t, "console", name, sizeof name);
		int fd = listen_on(name);
		if (fd < 0) goto failed;
		channel_open(&t->console, fd, ON_CONSOLE, t->slot);
		channel_watch(&t->console, EPOLLIN);
		snprintf(console, sizeof console, "/proc/%d/fd/%d/%s", (int)getpid(), state_fd, name);
	} else {
		if (pipe2(out, O_CLOEXEC) != 0) goto failed;
		if (t->stdin_mode != STDIN_NONE && pipe2(in, O_CLOEXEC) != 0) goto failed;
	}
	struct arguments a = runtime_arguments(log);
	arguments_add(&a, t == &init ? "run" : "exec");
	arguments_add(&a, "--detach");
	arguments_add(&a, t == &init ? "--bundle" : "--process");
	arguments_add(&a, t == &init ? config.bundle : t->process_path);
	arguments_add(&a, "--pid-file");
	arguments_add(&a, pid_file);
	if (t->tty) {
		arguments_add(&a, "--console-socket");
		arguments_add(&a, console);
	}
	arguments_add(&a, config.id);
	t->orphans_before = orphan_count;
	if (t == &init) delete_wanted = !runtime_knows_id();
	t->runtime_pid = runtime_spawn(&a, in[0] >= 0 ? in[0] : null_fd, t->tty ? null_fd : out[1], err[1]);
	if (t->runtime_pid < 0) goto failed;
	close(err[1]);
	set_nonblocking(err[0]);
	if (t->tty) {
		t->runtime_stderr = err[0];
		return true;
	}
	close(out[1]);
	set_nonblocking(out[0]);
	channel_open(&t->out[0], out[0], ON_STDOUT, t->slot);
	channel_open(&t->out[1], err[0], ON_STDERR, t->slot);
	if (in[0] >= 0) {
		close(in[0]);
		set_nonblocking(in[1]);
		channel_open(&t->in, in[1], ON_STDIN, t->slot);
	}
	return true;
failed:;
	int error = errno;
	for (int i = 0; i < 2; i++) {
		if (in[i] >= 0) close(in[i]);
		if (out[i] >= 0) close(out[i]);
		if (err[i] >= 0) close(err[i]);
	}
	channel_close(&t->console);
	errno = error;
	return false;
}

/* Takes the runtime's connection, then the terminal's master from it. Called whenever there may be news. */
static void task_receive_console(struct task *t)
{
	if (t->console.fd < 0) return;
	if (!t->console_connected) {
		int fd = accept4(t->console.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) return;
		channel_close(&t->console);
		char name[64];
		task_file(t, "console", name, sizeof name);
		unlinkat(state_fd, name, 0);
		channel_open(&t->console, fd, ON_CONSOLE, t->slot);
		channel_watch(&t->console, EPOLLIN);
		t->console_connected = true;
	}
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))), data[4096];
	struct iovec vector = {.iov_base = data, .iov_len = sizeof data};
	struct msghdr message = {
		.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(t->console.fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
	struct cmsghdr *header = n >= 0 ? CMSG_FIRSTHDR(&message) : NULL;
	channel_close(&t->console);
	if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
	    header->cmsg_len != CMSG_LEN(sizeof(int)))
		return;
	int master;
	memcpy(&master, CMSG_DATA(header), sizeof master);
	if (t->size.ws_row || t->size.ws_col) ioctl(master, TIOCSWINSZ, &t->size);
	set_nonblocking(master);
	channel_open(&t->out[0], master, ON_STDOUT, t->slot);
	task_flush_stdin(t);
}

/* What the runtime had to say: its log word for word, or what it wrote to stderr when the log is empty. */
static void task_error_text(struct task *t, struct buffer *text)
{
	char name[64];
	task_file(t, "log", name, sizeof name);
	append_file_tail(text, name, ERROR_TEXT_BYTES);
	if (text->length > 0) return;
	int fd = t->tty ? t->runtime_stderr : t->out[1].fd;
	uint8_t bytes[1024];
	ssize_t n;
	while (fd >= 0 && (n = read(fd, bytes, sizeof bytes)) > 0) {
		buffer_append(text, bytes, (size_t)n);
		if (text->length > ERROR_TEXT_BYTES) buffer_consume(text, text->length - ERROR_TEXT_BYTES);
	}
}

static int status_code(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void runtime_delete(void)
{
	char log[PATH_MAX + 64];
	snprintf(log, sizeof log, "%s/delete.log", config.state);
	struct arguments a = runtime_arguments(log);
	arguments_add(&a, "delete");
	arguments_add(&a, "--force");
	arguments_add(&a, config.id);
	delete_started_ms = now_ms();
	delete_pid = runtime_spawn(&a, null_fd, null_fd, null_fd);
	stage = STAGE_DELETING;
}

/* ---- starting, ending ------------------------------------------------------------------------------------------- */

static struct buffer exit_line; /* the "exited" line, for daemons that come back late */

static void release_done(int status);

static void task_close_streams(struct task *t)
{
	for (int i = 0; i < 2; i++) channel_close(&t->out[i]);
	channel_close(&t->in);
	channel_close(&t->console);
	if (t->runtime_stderr >= 0) close(t->runtime_stderr);
	t->runtime_stderr = -1;
	buffer_free(&t->stdin_queue);
	for (unsigned i = 0; i < client_top; i++) {
		struct client *c = &clients[i];
		if (c->channel.fd < 0 || c->task != t) continue;
		c->task = NULL;
		client_end(c);
	}
}

/* A new task's descriptors are closed ones. */
static void task_reset(struct task *t, unsigned slot)
{
	*t = (struct task){.slot = slot, .runtime_stderr = -1, .in.fd = -1, .console.fd = -1};
	t->out[0].fd = t->out[1].fd = -1;
}

static void exec_free(struct task *t)
{
	task_close_streams(t);
	task_unlink_files(t, true);
	tasks[t->slot] = NULL;
	free(t);
}

/* {"error":"…","status":N} to a connection that waits for an exec; it is closed behind it. */
static void exec_refuse(struct client *c, const void *text, size_t length, int status)
{
	struct buffer line = {0};
	bool ok = buffer_append(&line, "{\"error\":", 9) && json_append_string(&line, text, length) &&
		  buffer_printf(&line, ",\"status\":%d}\n", status);
	if (ok) client_queue(c, buffer_bytes(&line), line.length);
	buffer_free(&line);
	client_end(c);
}

/* The start came to nothing: undo what the runtime may have left, then say so (release_done). */
static void init_failed(const void *text, size_t length, int status)
{
	bool ok = buffer_append(&failure, "{\"event\":\"failed\",\"error\":", 26) &&
		  json_append_string(&failure, text, length) && buffer_printf(&failure, ",\"status\":%d}\n", status);
	if (!ok) buffer_free(&failure), buffer_printf(&failure, "{\"event\":\"failed\",\"error\":\"\",\"status\":%d}\n", status);
	init.phase = TASK_FREE;
	task_close_streams(&init);
	if (delete_wanted) runtime_delete();
	else release_done(0);
}

static void task_failed(struct task *t, const void *text, size_t length, int status)
{
	if (t == &init) {
		init_failed(text, length, status);
		return;
	}
	if (t->client) {
		struct client *c = t->client;
		t->client = NULL;
		c->task = NULL;
		exec_refuse(c, text, length, status);
	}
	exec_free(t);
}

static void task_exited(struct task *t, int status, struct timespec at)
{
	t->phase = TASK_EXITED;
	t->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	t->code = status_code(status);
	/* an end that was reaped before the runtime reported the start must not lie before it */
	bool early = at.tv_sec < t->started_at.tv_sec ||
		     (at.tv_sec == t->started_at.tv_sec && at.tv_nsec < t->started_at.tv_nsec);
	t->exited_at = early ? t->started_at : at;
	t->exited_ms = now_ms();
	t->hung_up = false;
	task_watch(t);
	if (t != &init) return;
	/* an exec in another pid namespace would live on without its container */
	for (unsigned i = 1; i < TASK_MAX; i++)
		if (tasks[i] && tasks[i]->phase == TASK_RUNNING) kill(tasks[i]->pid, SIGKILL);
}

/* The runtime did its work: learn the pid, and whether that process has ended already. */
static void task_started(struct task *t)
{
	char name[64], text[32];
	task_file(t, "pid", name, sizeof name);
	read_text(state_fd, name, text, sizeof text);
	t->pid = (pid_t)atol(text);
	task_receive_console(t);
	if (t->pid <= 1 || (t->tty && t->out[0].fd < 0)) {
		static const char message[] = "shim: the runtime gave no pid or no terminal";
		task_failed(t, message, sizeof message - 1, -1);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &t->started_at);
	t->phase = TASK_RUNNING;
	if (t->runtime_stderr >= 0) close(t->runtime_stderr);
	t->runtime_stderr = -1;
	if (t == &init) {
		char at[TIME_BYTES];
		time_format(at, t->started_at);
		oom_watch(t->pid);
		report("{\"event\":\"started\",\"pid\":%d,\"at\":\"%s\"}\n", (int)t->pid, at);
	} else if (t->client) {
		char line[32];
		int n = snprintf(line, sizeof line, "{\"pid\":%d}\n", (int)t->pid);
		struct client *c = t->client;
		t->client = NULL;
		client_queue(c, line, (size_t)n);
		if (c->mask == 0) c->task = NULL, client_end(c);
		else if (c->channel.fd >= 0) client_flush(c);
	}
	task_unlink_files(t, true);
	if (t == &init) write_file("init.pid", text, strlen(text), false); /* kept: tells "lost" from "never started" */
	task_watch(t);
	/* it may have ended and been reaped between the runtime's start and now */
	siginfo_t info;
	if (waitid(P_PID, (id_t)t->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0) return;
	struct orphan *found = NULL;
	for (unsigned i = 0; i < ORPHAN_MAX; i++)
		if (orphans[i].pid == t->pid && orphans[i].number > t->orphans_before &&
		    (!found || orphans[i].number > found->number))
			found = &orphans[i];
	/* not our child yet: crun's parent may end before the worker it forked, which hands the process over to us */
	if (!found && kill(t->pid, 0) == 0) return;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	task_exited(t, found ? found->status : 255 << 8, found ? found->at : now);
}

static void task_runtime_ended(struct task *t, int status)
{
	t->runtime_pid = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		task_started(t);
		return;
	}
	struct buffer text = {0};
	task_error_text(t, &text);
	if (text.length == 0) {
		if (WIFSIGNALED(status)) buffer_printf(&text, "shim: the runtime was killed by signal %d", WTERMSIG(status));
		else buffer_printf(&text, "shim: the runtime (%s) ended with status %d", config.runtime, WEXITSTATUS(status));
	}
	/* killed half way it may have left a process of ours behind */
	char name[64], pid_text[32];
	task_file(t, "pid", name, sizeof name);
	read_text(state_fd, name, pid_text, sizeof pid_text);
	pid_t left = (pid_t)atol(pid_text);
	siginfo_t info;
	if (left > 1 && waitid(P_PID, (id_t)left, &info, WEXITED | WNOHANG | WNOWAIT) == 0) kill(left, SIGKILL);
	task_failed(t, buffer_bytes(&text), text.length, status_code(status));
	buffer_free(&text);
}

/* Streams first, then the event: who waits for the event may rely on having all output. */
static void exec_finish(struct task *t)
{
	struct ended_exec *ended = &ended_execs[ended_exec_count++ % ENDED_EXEC_MAX];
	snprintf(ended->id, sizeof ended->id, "%s", t->id);
	ended->code = t->code;
	exec_free(t);
	report("{\"event\":\"exec-exited\",\"id\":\"%s\",\"code\":%d}\n", ended->id, ended->code);
}

/* The record is on disk before anyone hears of the exit, so a daemon that dies here finds it. */
static void init_finish(void)
{
	char started[TIME_BYTES], at[TIME_BYTES];
	for (int stream = 0; stream < 2; stream++) log_end_stream(stream);
	log_flush();
	log_report_dropped(true);
	oom_check();
	channel_close(&oom_channel);
	time_format(started, init.started_at);
	time_format(at, init.exited_at);
	struct buffer record = {0};
	buffer_printf(&record,
		      "{\"pid\":%d,\"code\":%d,\"signal\":%d,\"oom\":%s,\"at\":\"%s\",\"run\":%ld,\"started_at\":\"%s\"}\n",
		      (int)init.pid, init.code, init.signal, oom.reported > 0 ? "true" : "false", at, config.run, started);
	bool written = write_file("exit.json", buffer_bytes(&record), record.length, true);
	buffer_free(&record);
	buffer_printf(&exit_line,
		      "{\"event\":\"exited\",\"pid\":%d,\"code\":%d,\"signal\":%d,\"oom\":%s,\"at\":\"%s\",\"recorded\":%s}\n",
		      (int)init.pid, init.code, init.signal, oom.reported > 0 ? "true" : "false", at,
		      written ? "true" : "false");
	control_broadcast(&exit_line);
	for (unsigned i = 1; i < TASK_MAX; i++) {
		struct task *t = tasks[i];
		if (!t) continue;
		if (t->runtime_pid > 0) kill(t->runtime_pid, SIGKILL);
		exec_free(t);
	}
	task_close_streams(&init);
	init.phase = TASK_FREE;
	runtime_delete();
}

/* Nothing is left of the container, or the runtime could not do it: last words, then the shim ends. */
static void release_done(int status)
{
	static const char *names[] = {"shim.sock", "shim.pid", "delete.log"};
	struct buffer text = {0}, line = {0};
	if (status != 0) append_file_tail(&text, "delete.log", ERROR_TEXT_BYTES);
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) unlinkat(state_fd, names[i], 0);
	task_unlink_files(&init, true);
	channel_close(&listener);
	if (failure.length > 0) {
		control_broadcast(&failure);
	} else {
		buffer_printf(&line, "{\"event\":\"released\",\"status\":%d,\"error\":", status);
		json_append_string(&line, buffer_bytes(&text), text.length);
		buffer_append(&line, "}\n", 2);
		control_broadcast(&line);
	}
	buffer_free(&text);
	buffer_free(&line);
	stage = STAGE_LINGERING;
	last_words_ms = now_ms();
}

/* ---- children --------------------------------------------------------------------------------------------------- */

static struct task *task_by_child(pid_t pid, bool *is_runtime)
{
	for (unsigned i = 0; i < TASK_MAX; i++) {
		struct task *t = tasks[i];
		if (!t) continue;
		*is_runtime = t->runtime_pid == pid;
		if (*is_runtime || (t->phase == TASK_RUNNING && t->pid == pid)) return t;
	}
	return NULL;
}

static void on_children(void)
{
	struct signalfd_siginfo info[8];
	while (read(signals.fd, info, sizeof info) > 0) continue;
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct timespec at;
		clock_gettime(CLOCK_REALTIME, &at);
		bool is_runtime = false;
		struct task *t = task_by_child(pid, &is_runtime);
		if (pid == delete_pid) {
			delete_pid = 0;
			release_done(status_code(status));
		} else if (t && is_runtime) {
			task_runtime_ended(t, status);
		} else if (t) {
			task_exited(t, status, at);
		} else {
			orphans[orphan_count % ORPHAN_MAX] =
				(struct orphan){.pid = pid, .status = status, .at = at, .number = orphan_count + 1};
			orphan_count++;
		}
	}
}

/* ---- what clients ask for --------------------------------------------------------------------------------------- */

static struct task *task_by_id(const uint8_t *id, size_t length)
{
	if (length == 0) return &init;
	for (unsigned i = 1; i < TASK_MAX; i++)
		if (tasks[i] && strlen(tasks[i]->id) == length && memcmp(tasks[i]->id, id, length) == 0) return tasks[i];
	return NULL;
}

static void on_resize(const struct frame *f)
{
	struct task *t = task_by_id(f->body + 4, f->length - 4);
	if (!t || !t->tty) return;
	t->size.ws_row = (unsigned short)(f->body[0] << 8 | f->body[1]);
	t->size.ws_col = (unsigned short)(f->body[2] << 8 | f->body[3]);
	if (t->out[0].fd >= 0) ioctl(t->out[0].fd, TIOCSWINSZ, &t->size);
}

/* While the runtime still works on the start, the signal ends that: the start then fails and is undone. */
static void on_signal_frame(const struct frame *f)
{
	struct task *t = task_by_id(f->body + 1, f->length - 1);
	if (!t || f->body[0] < 1 || f->body[0] > 64) return;
	if (t->phase == TASK_RUNNING) kill(t->pid, f->body[0]);
	else if (t->phase == TASK_STARTING && t->runtime_pid > 0 && f->body[0] == SIGKILL) kill(t->runtime_pid, SIGKILL);
}

static void on_hello_attach(struct client *c, uint8_t mask)
{
	bool full = clients_of(ROLE_ATTACH) >= ATTACH_MAX;
	if (full) client_evict_gone();
	if (mask > 7 || init.phase == TASK_FREE || init.phase == TASK_EXITED || clients_of(ROLE_ATTACH) >= ATTACH_MAX) {
		client_close(c);
		return;
	}
	c->role = ROLE_ATTACH;
	c->mask = mask;
	c->task = &init;
}

static void on_hello_control(struct client *c)
{
	if (clients_of(ROLE_CONTROL) >= CONTROL_MAX) {
		client_close(c);
		return;
	}
	char started[TIME_BYTES] = "";
	if (init.pid > 0) time_format(started, init.started_at);
	struct buffer line = {0};
	bool ok = buffer_printf(&line,
				"{\"event\":\"state\",\"version\":%d,\"id\":\"%s\",\"run\":%ld,\"pid\":%d,"
				"\"started_at\":\"%s\",\"oom\":%s,\"execs\":[",
				PROTOCOL_VERSION, config.id, config.run, (int)init.pid, started,
				oom.reported > 0 ? "true" : "false");
	const char *comma = "";
	for (unsigned i = 1; i < TASK_MAX; i++) {
		if (!tasks[i] || tasks[i]->pid <= 0) continue;
		ok = ok && buffer_printf(&line, "%s{\"id\":\"%s\",\"pid\":%d}", comma, tasks[i]->id, (int)tasks[i]->pid);
		comma = ",";
	}
	ok = ok && buffer_append(&line, "],\"ended_execs\":[", 17);
	unsigned long first = ended_exec_count > ENDED_EXEC_MAX ? ended_exec_count - ENDED_EXEC_MAX : 0;
	for (unsigned long i = first; i < ended_exec_count; i++) {
		const struct ended_exec *e = &ended_execs[i % ENDED_EXEC_MAX];
		ok = ok && buffer_printf(&line, "%s{\"id\":\"%s\",\"code\":%d}", i > first ? "," : "", e->id, e->code);
	}
	ok = ok && buffer_append(&line, "]}\n", 3);
	c->role = ROLE_CONTROL;
	if (ok) client_queue(c, buffer_bytes(&line), line.length);
	buffer_free(&line);
	if (exit_line.length > 0) client_queue(c, buffer_bytes(&exit_line), exit_line.length);
	if (!ok) client_close(c);
	else if (c->channel.fd >= 0) client_flush(c);
}

static void on_hello_exec(struct client *c, const struct frame *f)
{
	struct exec_request request = {.path = ""};
	c->role = ROLE_EXEC;
	const char *refusal = NULL;
	unsigned slot = 1;
	while (slot < TASK_MAX && tasks[slot]) slot++;
	if (!exec_request_parse(f->body, f->length, &request)) refusal = "shim: malformed exec request";
	else if (init.phase != TASK_RUNNING) refusal = "shim: the container is not running";
	else if (slot == TASK_MAX) refusal = "shim: too many execs";
	else if (task_by_id((uint8_t *)request.id, strlen(request.id))) refusal = "shim: an exec of this id is running";
	struct task *t = refusal ? NULL : malloc(sizeof *t);
	if (!t) {
		if (!refusal) refusal = strerror(ENOMEM);
		if (request.path[0]) unlink(request.path);
		exec_refuse(c, refusal, strlen(refusal), -1);
		return;
	}
	task_reset(t, slot);
	t->phase = TASK_STARTING;
	t->tty = request.tty;
	t->stdin_mode = request.stdin_open ? STDIN_ONCE : STDIN_NONE;
	t->size = (struct winsize){.ws_row = request.rows, .ws_col = request.columns};
	snprintf(t->id, sizeof t->id, "%s", request.id);
	snprintf(t->process_path, sizeof t->process_path, "%s", request.path);
	tasks[slot] = t;
	c->task = t;
	c->mask = request.stdin_open ? request.mask : request.mask & MASK_OUTPUT;
	t->client = c;
	if (task_launch(t)) return;
	char message[160];
	int n = snprintf(message, sizeof message, "shim: cannot start the runtime: %s", strerror(errno));
	task_failed(t, message, (size_t)n, -1);
}

/* Hello comes first and once; which frames may follow depends on what the connection is. */
static void client_frame(struct client *c, const struct frame *f)
{
	bool hello = f->type >= FRAME_HELLO_ATTACH;
	bool streaming = c->role == ROLE_ATTACH || c->role == ROLE_EXEC;
	if (hello != (c->role == ROLE_NEW) || (f->type <= FRAME_STDIN_EOF && !streaming)) {
		client_close(c);
		return;
	}
	switch (f->type) {
	case FRAME_STDIN: client_stdin(c, f->body, f->length); break;
	case FRAME_STDIN_EOF: client_stdin_eof(c); break;
	case FRAME_RESIZE: on_resize(f); break;
	case FRAME_SIGNAL: on_signal_frame(f); break;
	case FRAME_HELLO_ATTACH: on_hello_attach(c, f->body[0]); break;
	case FRAME_HELLO_CONTROL: on_hello_control(c); break;
	case FRAME_HELLO_EXEC: on_hello_exec(c, f); break;
	}
}

/* Read only while the task's stdin is empty, and one piece at a time: so stdin never holds more than READ_BYTES. */
static void client_read(struct client *c)
{
	if (!c->farewell && c->task && c->mask & MASK_STDIN && c->task->stdin_queue.length > 0) {
		c->blocked = true;
		client_watch(c);
		return;
	}
	ssize_t n = recv(c->channel.fd, input_bytes, sizeof input_bytes, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
	if (n <= 0) {
		client_close(c);
		return;
	}
	const uint8_t *rest = input_bytes;
	size_t length = (size_t)n;
	if (c->farewell) return;
	while (c->channel.fd >= 0 && !c->ending && length > 0) {
		struct frame f;
		enum frame_status status = frame_next(&c->frames, &rest, &length, &f);
		if (status == FRAME_MORE) break;
		if (status == FRAME_BAD) client_close(c);
		else client_frame(c, &f);
	}
}

static void on_client(unsigned slot, uint32_t events)
{
	struct client *c = &clients[slot];
	if (events & EPOLLOUT) client_flush(c);
	if (c->channel.fd < 0) return;
	bool reading = c->channel.events & EPOLLIN;
	if (reading && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) client_read(c);
	/* ending and the peer left: nobody takes the rest; blocked: what it sent before it left still counts */
	else if (c->ending && events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) client_close(c);
}

static void on_listener(void)
{
	int fd;
	while ((fd = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
		if (!client_add(fd, ROLE_NEW)) close(fd);
}

/* ---- the loop --------------------------------------------------------------------------------------------------- */

static void on_event(uint64_t tag, uint32_t events)
{
	unsigned slot = (unsigned)(tag >> 32 & 0xFFFFFF);
	enum kind kind = (enum kind)(tag >> 56);
	if (kind == ON_SIGNAL) on_children();
	else if (kind == ON_LISTENER && listener.fd >= 0) on_listener();
	else if (kind == ON_OOM && oom_channel.tag == tag && oom_channel.fd >= 0) on_oom();
	else if (kind == ON_CLIENT && clients[slot].channel.tag == tag && clients[slot].channel.fd >= 0)
		on_client(slot, events);
	struct task *t = kind >= ON_STDIN ? tasks[slot] : NULL;
	if (!t) return;
	if (kind == ON_STDIN && t->in.tag == tag && t->in.fd >= 0) task_flush_stdin(t);
	if (kind == ON_CONSOLE && t->console.tag == tag) task_receive_console(t);
	if (kind != ON_STDOUT && kind != ON_STDERR) return;
	int stream = kind == ON_STDERR;
	if (t->out[stream].tag != tag || t->out[stream].fd < 0) return;
	if (t->tty && events & EPOLLOUT) task_flush_stdin(t);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && t->phase != TASK_STARTING && !t->paused)
		task_read_output(t, stream);
}

/* A reader that takes nothing must not hold up the others for ever. Alone it may: so does a terminal. */
static void drop_stalled_clients(struct task *t)
{
	unsigned readers = 0;
	for (unsigned i = 0; i < client_top; i++) readers += client_takes_output(&clients[i], t);
	for (unsigned i = 0; i < client_top && readers > 1; i++) {
		struct client *c = &clients[i];
		if (!client_takes_output(c, t) || c->queue.length < QUEUE_LOW) continue;
		if (now_ms() - c->progress_ms < config.stall_ms) continue;
		client_close(c);
		readers--;
	}
}

static bool task_drained(const struct task *t)
{
	return t->out[0].fd < 0 && t->out[1].fd < 0;
}

/* Reads on while there is something; an exited task's output is not held back by slow readers. */
static bool task_over(struct task *t)
{
	if (t->phase != TASK_EXITED) return false;
	for (int stream = 0; stream < 2; stream++)
		for (int round = 0; round < 64 && task_read_output(t, stream); round++) continue;
	return task_drained(t) || now_ms() - t->exited_ms > DRAIN_MS;
}

/* What is due by time or by state. Returns how long the loop may sleep. */
static int housekeeping(void)
{
	bool tick = false;
	unsigned execs = 0;
	for (unsigned i = 0; i < TASK_MAX; i++) {
		struct task *t = tasks[i];
		if (!t || t->phase == TASK_FREE) continue;
		if (t->paused) drop_stalled_clients(t);
		if (t != &init && task_over(t)) exec_finish(t);
		else if (t->paused || t->phase == TASK_EXITED) tick = true;
		if (i > 0 && tasks[i]) execs++;
	}
	if (init.phase == TASK_EXITED && task_over(&init)) {
		/* execs die with init's pid namespace; give their own ends a chance to be told first */
		if (execs == 0 || now_ms() - init.exited_ms > DRAIN_MS) init_finish();
	}
	if (oom.recheck_until_ms > now_ms() && oom_channel.fd >= 0) {
		oom_check();
		tick = true;
	}
	log_flush();
	log_report_dropped(false);
	if (logger.dropped != logger.dropped_reported) tick = true;
	if (stage == STAGE_DELETING) {
		if (delete_pid < 0) release_done(-1);
		else if (now_ms() - delete_started_ms > DELETE_MS) kill(delete_pid, SIGKILL);
		if (!tick) return 1000;
	}
	return tick ? TICK_MS : -1;
}

/* Over when nobody is left who reads. Attached users take their time to read all; a control connection may not. */
static bool lingering(void)
{
	if (stage != STAGE_LINGERING) return true;
	for (unsigned i = 0; i < client_top; i++) {
		struct client *c = &clients[i];
		bool streaming = c->role == ROLE_ATTACH || c->role == ROLE_EXEC;
		if (c->channel.fd < 0 || (c->queue.length == 0 && !streaming)) continue;
		if (streaming || now_ms() - last_words_ms < LAST_WORDS_MS) return true;
	}
	return false;
}

static void run_loop(void)
{
	struct epoll_event events[64];
	while (lingering()) {
		int sleep_ms = housekeeping();
		if (stage == STAGE_LINGERING && (sleep_ms < 0 || sleep_ms > 100)) sleep_ms = lingering() ? 100 : 0;
		int count = epoll_wait(epoll_fd, events, 64, sleep_ms);
		for (int i = 0; i < count; i++) on_event(events[i].data.u64, events[i].events);
	}
}

/* ---- the beginning ---------------------------------------------------------------------------------------------- */

static int attach_fds[ATTACH_MAX], attach_masks[ATTACH_MAX], attach_count;

static bool parse_attach(const char *value)
{
	char *end;
	long fd = strtol(value, &end, 10);
	if (*end != ':' || fd < 4 || fd > 65535 || attach_count == ATTACH_MAX) return false;
	long mask = strtol(end + 1, &end, 10);
	if (*end || mask < 1 || mask > 7) return false;
	attach_fds[attach_count] = (int)fd;
	attach_masks[attach_count++] = (int)mask;
	return true;
}

static bool parse_stdin_mode(const char *value)
{
	static const char *names[] = {"none", "open", "once"};
	for (int i = 0; i < 3; i++)
		if (strcmp(value, names[i]) == 0) {
			init.stdin_mode = (enum stdin_mode)i;
			return true;
		}
	return false;
}

static bool parse_number(const char *value, long long low, long long high, long long *out)
{
	char *end;
	errno = 0;
	*out = strtoll(value, &end, 10);
	return errno == 0 && end != value && !*end && *out >= low && *out <= high;
}

/* True when the option is known and its value good. */
static bool parse_option(const char *name, const char *value)
{
	long long number;
#define IS(text) (strcmp(name, text) == 0)
#define NUMBER(low, high) parse_number(value, low, high, &number)
	if (IS("--id")) return config.id = value, name_valid(value, strlen(value));
	if (IS("--run")) return NUMBER(0, 1LL << 31) && (config.run = (long)number, true);
	if (IS("--state")) return config.state = value, value[0] == '/' && strlen(value) < PATH_MAX - 64;
	if (IS("--bundle")) return config.bundle = value, value[0] == '/';
	if (IS("--runtime")) return config.runtime = value, value[0] != 0;
	if (IS("--runtime-root")) return config.runtime_root = value, value[0] == '/';
	if (IS("--runtime-option"))
		return config.option_count < RUNTIME_OPTION_MAX && (config.options[config.option_count++] = value, true);
	if (IS("--cgroup")) return config.cgroup = value, value[0] == '/';
	if (IS("--log")) return config.log_path = value, value[0] == '/' && strlen(value) < PATH_MAX;
	if (IS("--log-max-size")) return NUMBER(0, 1LL << 62) && (config.log_max_size = number, true);
	if (IS("--log-max-files")) return NUMBER(1, 10000) && (config.log_max_files = (int)number, true);
	if (IS("--log-attributes")) return config.log_attributes = strcmp(value, "{}") ? value : "", true;
	if (IS("--rows")) return NUMBER(0, 65535) && (init.size.ws_row = (unsigned short)number, true);
	if (IS("--columns")) return NUMBER(0, 65535) && (init.size.ws_col = (unsigned short)number, true);
	if (IS("--stdin")) return parse_stdin_mode(value);
	if (IS("--attach")) return parse_attach(value);
	if (IS("--stall-ms")) return NUMBER(1, 1 << 30) && (config.stall_ms = (int)number, true);
#undef IS
#undef NUMBER
	return false;
}

/* Returns the argument that is wrong, NULL when all are good. */
static const char *parse_arguments(int count, char **values)
{
	for (int i = 1; i < count; i++) {
		if (strcmp(values[i], "--tty") == 0) {
			init.tty = true;
			continue;
		}
		if (i + 1 == count || !parse_option(values[i], values[i + 1])) return values[i];
		i++;
	}
	if (!config.id) return "--id";
	if (!config.state) return "--state";
	if (!config.bundle) return "--bundle";
	if (!config.runtime) return "--runtime";
	return NULL;
}

static void close_range_of(unsigned first, unsigned last)
{
	if (first > last || syscall(SYS_close_range, first, last, 0) == 0) return;
	for (unsigned fd = first; fd <= last && fd < 65536; fd++) close((int)fd); /* before Linux 5.9 */
}

/* Keeps 3 and the attached sockets, and nothing else that the daemon may have had open. */
static void close_inherited(void)
{
	unsigned next = 4;
	for (;;) {
		unsigned lowest = ~0u;
		for (int i = 0; i < attach_count; i++)
			if ((unsigned)attach_fds[i] >= next && (unsigned)attach_fds[i] < lowest) lowest = (unsigned)attach_fds[i];
		if (lowest == ~0u) break;
		close_range_of(next, lowest - 1);
		next = lowest + 1;
	}
	close_range_of(next, ~0u);
}

/* pid and start time: a recycled pid has another start time. */
static void write_own_pid(void)
{
	char stat[1024], text[64];
	read_text(AT_FDCWD, "/proc/self/stat", stat, sizeof stat);
	char *field = strrchr(stat, ')'); /* end of field 2; 22 is the start time */
	for (int i = 2; field && i < 22; i++) field = strchr(field + 1, ' ');
	int n = snprintf(text, sizeof text, "%d %llu\n", (int)getpid(), field ? strtoull(field, NULL, 10) : 0);
	write_file("shim.pid", text, (size_t)n, false);
}

static void become_monitor(void)
{
	setsid();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_NAME, "longshore-shim");
	for (int i = 0; i < 4; i++) signal((int[]){SIGHUP, SIGTERM, SIGINT, SIGPIPE}[i], SIG_IGN);
	int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (score >= 0) {
		ssize_t ignore = write(score, "-999", 4);
		(void)ignore;
		close(score);
	}
	if (chdir("/") != 0) return;
	dup2(null_fd, 0);
	dup2(null_fd, 1);
	dup2(null_fd, 2);
}

/* Everything that can fail before the runtime is started. Returns what failed, NULL for success. */
static const char *set_up(void)
{
	sigset_t children;
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_BLOCK, &children, NULL);
	if ((epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0) return "epoll_create1";
	int fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0) return "signalfd";
	channel_open(&signals, fd, ON_SIGNAL, 0);
	channel_watch(&signals, EPOLLIN);
	fcntl(3, F_SETFD, FD_CLOEXEC);
	if (fcntl(3, F_GETFD) >= 0) client_add(3, ROLE_CONTROL);
	for (int i = 0; i < attach_count; i++) {
		fcntl(attach_fds[i], F_SETFD, FD_CLOEXEC);
		struct client *c = client_add(attach_fds[i], ROLE_ATTACH);
		c->mask = (uint8_t)attach_masks[i];
		c->task = &init;
	}
	if (state_fd < 0) return config.state;
	if (config.log_path && !log_open(0)) return config.log_path;
	if ((fd = listen_on("shim.sock")) < 0) return "shim.sock";
	channel_open(&listener, fd, ON_LISTENER, 0);
	channel_watch(&listener, EPOLLIN);
	write_own_pid();
	return task_launch(&init) ? NULL : "starting the runtime";
}

int main(int argc, char **argv)
{
	enum stdin_mode none = STDIN_NONE;
	init.stdin_mode = none;
	const char *wrong = parse_arguments(argc, argv);
	if (wrong) {
		dprintf(3, "{\"event\":\"failed\",\"error\":\"shim: bad or missing argument %s\",\"status\":-1}\n",
			name_valid(wrong, strlen(wrong)) ? wrong : "value");
		return 2;
	}
	/* 0-2 must be taken before anything is opened, or a pipe could end up as the runtime's stdio by accident */
	while ((null_fd = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && null_fd < 3) continue;
	pid_t child = fork();
	if (child != 0) return child < 0;
	close_inherited();
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	become_monitor();
	struct task asked = init;
	task_reset(&init, 0);
	init.tty = asked.tty;
	init.size = asked.size;
	init.stdin_mode = asked.stdin_mode;
	init.phase = TASK_STARTING;
	tasks[0] = &init;
	state_fd = open(config.state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *failed = set_up();
	if (failed) {
		char text[PATH_MAX + 256];
		int n = snprintf(text, sizeof text, "shim: %s: %s", failed, strerror(errno));
		init_failed(text, (size_t)n, -1);
	}
	run_loop();
	return 0;
}
