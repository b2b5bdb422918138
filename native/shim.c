/*
 * The per-container monitor: one small process that outlives the daemon, owns the container's stdio, reaps it and
 * remembers how it ended. Mechanism only; every decision (restart, timeouts, what a message means to a user) is the
 * daemon's. The protocol, the files in the state directory and the rules for slow readers: docs/shim-protocol.md. One piece over
 * 500 lines, because it is one event loop over one set of state; what stands alone is in the headers beside it.
 *
 * One thread, one epoll loop, nothing in it blocks (but for the exit record's fsync, at the
 * very end, and await_program(), at the start, for a second at most). The OCI runtime
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
#include <sys/resource.h>
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
#define PIPE_BYTES (256 * 1024) /* of stdout: a writer that is fast is woken for every fourth read only */
#define QUEUE_HIGH (1024 * 1024) /* a client's queue above this stops reading the container's output */
#define QUEUE_LOW (QUEUE_HIGH / 2)
#define QUEUE_LIMIT (4 * QUEUE_HIGH) /* output after the exit may pass QUEUE_HIGH, never this */
#define LOG_BATCH_BYTES (64 * 1024)
#define ERROR_TEXT_BYTES (16 * 1024)
#define ATTACH_MAX 64
#define EXEC_MAX 1024
#define CONTROL_MAX 16
#define CLIENT_MAX (ATTACH_MAX + EXEC_MAX + 2 * CONTROL_MAX) /* the rest: connections that did not say hello yet */
#define TASK_MAX (1 + EXEC_MAX)                              /* slot 0 is init */
#define ENDED_EXEC_MAX 64
#define ORPHAN_MAX 1024
#define RUNTIME_OPTION_MAX 32
#define DRAIN_MS 2000           /* output that is still open this long after the exit is given up, as moby does */
#define OOM_RECHECK_MS 1000     /* on v1 the event comes before the kill is counted */
#define PROGRAM_LOOKS 5000     /* at /proc/PID/exe, 0.2 ms apart: until the runtime's init has become the program */
#define NAMESAKE_LOOKS 100     /* the same, where no more than its name says that it is the runtime */
#define DELETE_MS 60000         /* a runtime that cannot delete in this time is killed, and the daemon told */
#define LAST_WORDS_MS 2000      /* what a control connection gets to take the last lines */
#define DROP_REPORT_MS 1000
#define TICK_MS 20              /* only while something has just ended, or the OOM killer was at work */
#define STALL_CHECK_MS 250
#define LINGER_CHECK_MS 500

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
	bool direct; /* an exec that is started by exec.c and not by the runtime */
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
	const char *id, *state, *bundle, *runtime, *runtime_root, *cgroup, *exec_helper, *claim;
	const char *options[RUNTIME_OPTION_MAX];
	int option_count, stall_ms;
	/* Of the pipes: the container's root, which may not be the host's; -1: as they are made. */
	uid_t stdio_uid;
	gid_t stdio_gid;
	long run;
	const char *log_path, *log_attributes;
	long long log_max_size;
	int log_max_files;
} config = {.stall_ms = 10000, .stdio_uid = (uid_t)-1, .stdio_gid = (gid_t)-1, .log_attributes = "", .log_max_files = 1};

static struct client clients[CLIENT_MAX];
static unsigned client_top; /* slots from here on were never used, and their memory never touched */
static struct task *tasks[TASK_MAX];
static unsigned task_top = 1; /* slots from here on are free */
static struct task init = {.slot = 0};
static int epoll_fd = -1, state_fd = -1, null_fd = -1;
static struct rlimit descriptors; /* as it was given: what the shim starts gets that back */
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

#include "clients.h"
#include "log-file.h"
#include "streams.h"
#include "oom.h"
#include "exec-helper.h"

/* ---- the OCI runtime -------------------------------------------------------------------------------------------- */

/* Children whose death was seen before anyone knew their pid: an exec may end before its runtime does. */
static struct orphan {
	pid_t pid;
	int status;
	struct timespec at;
	unsigned long number;
} orphans[ORPHAN_MAX];
static unsigned long orphan_count;

/* `path`: its file, if there was no daemon to tell; it is left for the next one. NULL otherwise. */
static struct ended_exec {
	char id[129], *path;
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

/*
 * vfork: the shim's memory is never copied. The child gets back what the shim changed for itself. `program`: an open file
 * to run instead of the one that is named; it finds `given` as descriptor 3.
 */
static pid_t spawn_program(const struct arguments *a, int in, int out, int err, int program, int given)
{
	pid_t pid = vfork();
	if (pid != 0) return pid;
	static const int ignored[] = {SIGHUP, SIGTERM, SIGINT, SIGPIPE};
	for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_DFL);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setrlimit(RLIMIT_NOFILE, &descriptors);
	int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (score >= 0) {
		ssize_t ignore = write(score, "0", 1);
		(void)ignore;
	}
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	if (program >= 0) {
		dup2(given, 3);
		fexecve(program, a->list, environ);
		_exit(EXEC_UNSUPPORTED);
	}
	execvp(a->list[0], a->list);
	_exit(errno == ENOENT ? 127 : 126);
}

static pid_t runtime_spawn(const struct arguments *a, int in, int out, int err)
{
	return spawn_program(a, in, out, err, -1, -1);
}

/* A sibling of the first process, without the runtime: see exec.c for its arguments. */
static pid_t exec_helper_spawn(const struct task *t, const char *pid_file, const char *console, int in, int out, int err)
{
	char init_pid[16];
	struct arguments a = {.count = 0};
	int program = exec_helper_open(), container = init_pidfd();
	snprintf(init_pid, sizeof init_pid, "%d", (int)init.pid);
	arguments_add(&a, "longshore-exec");
	arguments_add(&a, t->process_path);
	arguments_add(&a, init_pid);
	arguments_add(&a, pid_file);
	if (t->tty) arguments_add(&a, console);
	pid_t pid = program >= 0 && container >= 0 ? spawn_program(&a, in, out, err, program, container) : -1;
	int error = errno;
	if (program >= 0) close(program);
	if (container >= 0) close(container);
	errno = error;
	return pid;
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
	bool ok = bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, EXEC_MAX) == 0;
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

/* To the container's root, so that programs may open /dev/stdout and its siblings by name. */
static bool stdio_give(int fd)
{
	if (fd < 0 || (config.stdio_uid == (uid_t)-1 && config.stdio_gid == (gid_t)-1)) return true;
	return fchown(fd, config.stdio_uid, config.stdio_gid) == 0;
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
		if (!stdio_give(in[0]) || !stdio_give(out[1]) || !stdio_give(err[1])) goto failed;
	}
	int child_in = in[0] >= 0 ? in[0] : null_fd, child_out = t->tty ? null_fd : out[1];
	t->orphans_before = orphan_count;
	if (t->direct) {
		t->runtime_pid = exec_helper_spawn(t, pid_file, console, child_in, child_out, err[1]);
		if (t->runtime_pid < 0) goto failed;
		goto launched;
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
	if (t == &init) delete_wanted = !runtime_knows_id();
	t->runtime_pid = runtime_spawn(&a, child_in, child_out, err[1]);
	if (t->runtime_pid < 0) goto failed;
launched:
	close(err[1]);
	set_nonblocking(err[0]);
	if (t->tty) {
		t->runtime_stderr = err[0];
		return true;
	}
	close(out[1]);
	fcntl(out[0], F_SETPIPE_SZ, PIPE_BYTES);
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
	while (task_top > 1 && !tasks[task_top - 1]) task_top--;
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
	for (unsigned i = 1; i < task_top; i++)
		if (tasks[i] && tasks[i]->phase == TASK_RUNNING) kill(tasks[i]->pid, SIGKILL);
}

/*
 * The runtime comes back when it has let its init go on, a moment before that one becomes the user's program. A signal
 * in between is the runtime's own: runc's init ends by it with code 2, crun's ignores it. So nobody hears of the start
 * before. What runs is the runtime for sure where it is its file, or a copy in memory; where only the name says so, a
 * user's program may have it too, and is not waited for as long.
 */
static void await_program(pid_t pid)
{
	const char *slash = strrchr(config.runtime, '/'), *name = slash ? slash + 1 : config.runtime;
	struct stat runtime, running;
	bool known = stat(config.runtime, &runtime) == 0;
	struct timespec pause = {.tv_nsec = 200 * 1000};
	for (int i = 0; i < PROGRAM_LOOKS; i++) {
		char path[64], program[PATH_MAX];
		snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
		ssize_t n = readlink(path, program, sizeof program - 1);
		if (n <= 0) return;
		program[n] = 0;
		bool same = known && stat(path, &running) == 0 && running.st_dev == runtime.st_dev &&
			    running.st_ino == runtime.st_ino;
		bool copy = strncmp(program, "/memfd:", 7) == 0 && strstr(program, name);
		if (!same && !copy && (!strstr(program, name) || i >= NAMESAKE_LOOKS)) return;
		nanosleep(&pause, NULL);
	}
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
	if (t == &init) await_program(t->pid);
	clock_gettime(CLOCK_REALTIME, &t->started_at);
	t->phase = TASK_RUNNING;
	if (t->runtime_stderr >= 0) close(t->runtime_stderr);
	t->runtime_stderr = -1;
	task_unlink_files(t, false);
	if (t == &init) {
		char at[TIME_BYTES];
		time_format(at, t->started_at);
		oom_watch(t->pid);
		/* kept, and there before anybody hears of the start: tells "lost" from "never started" */
		write_file("init.pid", text, strlen(text), false);
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
	if (ended->path) unlink(ended->path);
	free(ended->path);
	ended->path = NULL;
	snprintf(ended->id, sizeof ended->id, "%s", t->id);
	ended->code = t->code;
	if (clients_of(ROLE_CONTROL) == 0) {
		ended->path = strdup(t->process_path);
		if (ended->path) t->process_path[0] = 0;
	}
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
	for (unsigned i = 1; i < task_top; i++) {
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
	for (unsigned i = 0; i < task_top; i++) {
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

#include "requests.h"

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

static void sooner(int *sleep_ms, int limit_ms)
{
	if (*sleep_ms < 0 || *sleep_ms > limit_ms) *sleep_ms = limit_ms;
}

/* A reader that takes nothing must not hold up the others for ever. Alone it may: so does a terminal. */
static void drop_stalled_clients(struct task *t, int *sleep_ms)
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
	if (readers > 1) sooner(sleep_ms, STALL_CHECK_MS);
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

/* What is due by time or by state. Returns how long the loop may sleep. */
static int housekeeping(void)
{
	int sleep_ms = -1;
	unsigned execs = 0;
	for (unsigned i = 0; i < task_top; i++) {
		struct task *t = tasks[i];
		if (!t || t->phase == TASK_FREE) continue;
		if (t->paused) drop_stalled_clients(t, &sleep_ms);
		if (t->phase == TASK_EXITED) sooner(&sleep_ms, TICK_MS);
		if (t == &init) continue;
		if (task_over(t)) exec_finish(t);
		else execs++;
	}
	if (init.phase == TASK_EXITED && task_over(&init)) {
		/* execs die with init's pid namespace; give their own ends a chance to be told first */
		if (execs == 0 || now_ms() - init.exited_ms > DRAIN_MS) init_finish();
	}
	if (oom.recheck_until_ms > now_ms() && oom_channel.fd >= 0) {
		oom_check();
		sooner(&sleep_ms, TICK_MS);
	}
	log_flush();
	log_report_dropped(false);
	if (logger.dropped != logger.dropped_reported) sooner(&sleep_ms, DROP_REPORT_MS);
	if (stage == STAGE_DELETING) {
		if (delete_pid < 0) release_done(-1);
		else if (now_ms() - delete_started_ms > DELETE_MS) kill(delete_pid, SIGKILL);
		sooner(&sleep_ms, 1000);
	}
	if (stage == STAGE_LINGERING) sooner(&sleep_ms, lingering() ? LINGER_CHECK_MS : 0);
	return sleep_ms;
}

static void run_loop(void)
{
	struct epoll_event events[64];
	while (lingering()) {
		int count = epoll_wait(epoll_fd, events, 64, housekeeping());
		for (int i = 0; i < count; i++) on_event(events[i].data.u64, events[i].events);
	}
}

/* ---- the beginning ---------------------------------------------------------------------------------------------- */

#include "options.h"

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
	/* an exec takes up to five */
	if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0)
		setrlimit(RLIMIT_NOFILE, &(struct rlimit){descriptors.rlim_max, descriptors.rlim_max});
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
	/* whoever may say that this start is none has not said so: from here on it is one */
	if (config.claim && unlinkat(state_fd, config.claim, 0) != 0) return config.claim;
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
