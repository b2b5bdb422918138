/*
 * Starts one further process in a container (docker exec): what `crun exec` and `runc exec` do, in a millisecond instead of
 * thirty. The shim runs it out of a sealed memory file, so that nothing in the container can get at a file of the host
 * through /proc/PID/exe (CVE-2019-5736). docs/shim-protocol.md has its input; the order of the steps is that of runc's
 * libcontainer/setns_init_linux.go and init_linux.go (v1.2), and so are the error texts.
 *
 *   longshore-exec FILE INIT_PID PID_FILE [CONSOLE_SOCKET]     descriptor 3: a pidfd of the container's first process
 *
 * Two processes: the first reads everything that it needs of the host, enters the pid namespace and forks; the second
 * is a child of the shim, joins the rest and becomes the program. The first ends with 0 when it has, with 1 and the
 * reason on stderr when it could not, with 75 when this kernel cannot do it this way and nothing has happened.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <termios.h>
#include <unistd.h>

#define PIDFD 3
#define UNSUPPORTED 75
#define DEVPTS_MAGIC 0x1cd1
#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif
#define CLONE_INTO_CGROUP_FLAG 0x200000000ULL
#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* As linux/capability.h, linux/filter.h and linux/seccomp.h have them; musl's compiler does not find those. */
#define CAPABILITY_VERSION_3 0x20080522
#define SECCOMP_MODE_FILTER_CALL 1
struct capability_header {
	uint32_t version;
	int pid;
};
struct capability_data {
	uint32_t effective, permitted, inheritable;
};
struct instruction {
	uint16_t code;
	uint8_t when_true, when_false;
	uint32_t value;
};
struct program {
	unsigned short length;
	struct instruction *instructions;
};

#include "exec-request.h"

static int task_fds[HIERARCHY_MAX], task_fd_count, unified_fd = -1, console_fd = -1;
static struct program filter;

/* ---- the host's side -------------------------------------------------------------------------------------------- */

/* True when `key` is one of the names between commas; the line of v2 has none. */
static bool names_hierarchy(const char *names, const char *key)
{
	size_t length = strlen(key);
	if (length == 0) return names[0] == 0;
	for (const char *at = names; (at = strstr(at, key)); at += length)
		if ((at == names || at[-1] == ',') && (at[length] == 0 || at[length] == ',')) return true;
	return false;
}

/* Wherever the first process is, its sibling belongs. A cgroup that cannot be opened must not be left out: it limits. */
static void open_cgroup(const char *key, const char *path)
{
	for (size_t i = 0; i < request.hierarchy_count; i++) {
		if (strcmp(request.hierarchies[i].key, key) != 0) continue;
		const char *root = request.hierarchies[i].root, *mount = request.hierarchies[i].mount;
		size_t root_length = strcmp(root, "/") == 0 ? 0 : strlen(root);
		if (strncmp(path, root, root_length) != 0 || strncmp(path, "/..", 3) == 0) _exit(UNSUPPORTED);
		char name[PATH_MAX];
		int n = snprintf(name, sizeof name, "%s%s%s", mount, path + root_length, key[0] ? "/tasks" : "");
		if (n < 0 || n >= (int)sizeof name) fail("%s: %s", path, reason(ENAMETOOLONG));
		int fd = open(name, key[0] ? O_WRONLY | O_CLOEXEC : O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0) _exit(UNSUPPORTED);
		if (key[0]) task_fds[task_fd_count++] = fd;
		else unified_fd = fd;
		return;
	}
}

static void open_cgroups(const char *init_pid)
{
	char name[64];
	size_t length = 0;
	snprintf(name, sizeof name, "/proc/%s/cgroup", init_pid);
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	char *text = fd >= 0 ? read_whole(fd, 1 << 20, &length) : NULL;
	/* the pidfd is of a process that lives, so the number was its own while the file was read */
	if (!text || syscall(SYS_pidfd_send_signal, PIDFD, 0, NULL, 0) != 0) fail("the container has ended");
	close(fd);
	char *rest = NULL;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
		if (!path) continue;
		*path++ = 0;
		for (size_t i = 0; i < request.hierarchy_count; i++)
			if (names_hierarchy(names + 1, request.hierarchies[i].key)) {
				open_cgroup(request.hierarchies[i].key, path);
				break;
			}
	}
	free(text);
}

static void read_filter(void)
{
	if (!request.seccomp_path) return;
	size_t length = 0;
	int fd = open(request.seccomp_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char *bytes = fd >= 0 ? read_whole(fd, 1 << 20, &length) : NULL;
	if (!bytes) fail("%s: %s", request.seccomp_path, reason(errno));
	size_t instructions = length / sizeof(struct instruction);
	if (length % sizeof(struct instruction) != 0 || instructions == 0 || instructions > USHRT_MAX)
		fail("%s: not a filter", request.seccomp_path);
	filter = (struct program){(unsigned short)instructions, (struct instruction *)bytes};
	close(fd);
}

static void connect_console(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof address.sun_path) fail("%s: %s", path, reason(ENAMETOOLONG));
	strcpy(address.sun_path, path);
	console_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (console_fd < 0 || connect(console_fd, (struct sockaddr *)&address, sizeof address) != 0)
		fail("%s: %s", path, reason(errno));
}

/* A child of the shim in the pid namespace that was set for children. On v2 it is born in its cgroup. */
static pid_t fork_sibling(void)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
	} arguments = {.flags = CLONE_PARENT};
	if (unified_fd >= 0) {
		arguments.flags |= CLONE_INTO_CGROUP_FLAG;
		arguments.cgroup = (uint64_t)unified_fd;
		pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
		if (pid >= 0) {
			if (pid == 0) close(unified_fd), unified_fd = -1;
			return pid;
		}
	}
	arguments.flags = CLONE_PARENT;
	arguments.cgroup = 0;
	return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

/* ---- the container's side --------------------------------------------------------------------------------------- */

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0) fail("write %s: %s", path, reason(errno));
	close(fd);
}

/* "0" is the writer itself, one thread: on v1 that takes no lock, where a pid would wait some 10 ms for RCU. */
static void join_cgroups(void)
{
	for (int i = 0; i < task_fd_count; i++) {
		if (write(task_fds[i], "0", 1) != 1) fail("join cgroup: %s", reason(errno));
		close(task_fds[i]);
	}
	if (unified_fd < 0) return;
	int fd = openat(unified_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1) fail("join cgroup: %s", reason(errno));
	close(fd);
	close(unified_fd);
}

static int open_apparmor(void)
{
	if (!request.apparmor) return -1;
	int fd = open("/proc/self/attr/apparmor/exec", O_WRONLY | O_CLOEXEC);
	if (fd < 0) fd = open("/proc/self/attr/exec", O_WRONLY | O_CLOEXEC);
	if (fd < 0) fail("unable to apply apparmor profile: %s", reason(errno));
	return fd;
}

static void apply_apparmor(int fd)
{
	char text[PATH_MAX];
	if (fd < 0) return;
	int n = snprintf(text, sizeof text, "exec %s", request.apparmor);
	if (n >= (int)sizeof text || write(fd, text, (size_t)n) != n)
		fail("unable to apply apparmor profile: %s", reason(errno));
	close(fd);
}

/* The container's own devpts, whatever lies at the path: only the kernel's master device has this number there. */
static void open_terminal(void)
{
	int unlock = 0, master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW);
	struct statfs fs;
	struct stat st;
	if (master < 0) fail("open /dev/pts/ptmx: %s", reason(errno));
	if (fstatfs(master, &fs) != 0 || fs.f_type != DEVPTS_MAGIC || fstat(master, &st) != 0 || !S_ISCHR(st.st_mode) ||
	    st.st_rdev != makedev(5, 2))
		fail("open /dev/pts/ptmx: not a terminal multiplexer");
	if (ioctl(master, TIOCSPTLCK, &unlock) != 0) fail("unlock terminal: %s", reason(errno));
	int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0) fail("open terminal: %s", reason(errno));
	if (request.size.ws_row || request.size.ws_col) ioctl(master, TIOCSWINSZ, &request.size);
	if (fchown(slave, request.uid, (gid_t)-1) != 0 && errno != EPERM && errno != EROFS)
		fail("fchown terminal: %s", reason(errno));
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0}, byte = 0;
	struct iovec vector = {&byte, 1};
	struct msghdr message = {
		.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &master, sizeof(int));
	if (sendmsg(console_fd, &message, MSG_NOSIGNAL) != 1) fail("hand over terminal: %s", reason(errno));
	close(master);
	close(console_fd);
	for (int fd = 0; fd < 3; fd++) dup2(slave, fd);
	close(slave);
	if (ioctl(0, TIOCSCTTY, 0) != 0) fail("set controlling terminal: %s", reason(errno));
}

/* So that who is not root may open /dev/stdout again. The null device is everybody's. */
static void give_stdio(void)
{
	struct stat st;
	for (int fd = 0; fd < 3; fd++) {
		if (fstat(fd, &st) != 0 || S_ISCHR(st.st_mode) || st.st_uid == request.uid) continue;
		if (fchown(fd, request.uid, (gid_t)-1) != 0 && errno != EPERM && errno != EROFS && errno != EINVAL)
			fail("fchown stdio: %s", reason(errno));
	}
}

/* False: only the user itself may know whether it can go there. */
static bool change_directory(bool last)
{
	if (chdir(request.cwd) != 0) {
		if (errno == EACCES && !last) return false;
		fail("chdir to cwd (\"%s\") set in config.json failed: %s", request.cwd, reason(errno));
	}
	/* a path through /proc may lead out of the container (CVE-2024-21626): then there is no name for it here */
	char at[PATH_MAX];
	if (syscall(SYS_getcwd, at, sizeof at) < 0 ? errno != ERANGE : at[0] != '/')
		fail("current working directory is outside of container mount namespace root");
	return true;
}

static void install_filter(void)
{
	if (filter.length == 0) return;
	if (syscall(SYS_seccomp, SECCOMP_MODE_FILTER_CALL, 0, &filter) != 0)
		fail("error loading seccomp filter: %s", reason(errno));
}

static void drop_bounding(void)
{
	for (int cap = 0; cap < 64; cap++) {
		int held = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
		if (held < 0) break;
		if (held == 0 || request.bounding >> cap & 1) continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0) fail("unable to apply bounding set: %s", reason(errno));
	}
}

static void set_capabilities(void)
{
	struct capability_header header = {.version = CAPABILITY_VERSION_3, .pid = 0};
	struct capability_data data[2];
	for (int half = 0; half < 2; half++)
		data[half] = (struct capability_data){
			.effective = (uint32_t)(request.effective >> 32 * half),
			.permitted = (uint32_t)(request.permitted >> 32 * half),
			.inheritable = (uint32_t)(request.inheritable >> 32 * half),
		};
	if (syscall(SYS_capset, &header, data) != 0) fail("unable to apply caps: %s", reason(errno));
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 && errno != EINVAL)
		fail("unable to apply caps: %s", reason(errno));
	for (int cap = 0; cap < 64; cap++)
		if (request.ambient >> cap & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) != 0)
			fail("unable to apply caps: %s", reason(errno));
}

/* Raw calls: one thread, and no library that sends signals to itself under a filter. */
static void become_user(bool in_directory)
{
	drop_bounding();
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) fail("unable to set keep caps: %s", reason(errno));
	if (syscall(SYS_setgroups, request.group_count, request.groups) != 0) fail("unable to setgroups: %s", reason(errno));
	if (syscall(SYS_setresgid, request.gid, request.gid, request.gid) != 0) fail("unable to setgid: %s", reason(errno));
	if (syscall(SYS_setresuid, request.uid, request.uid, request.uid) != 0) fail("unable to setuid: %s", reason(errno));
	if (!in_directory) change_directory(true);
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0) fail("unable to clear keep caps: %s", reason(errno));
	set_capabilities();
}

/* 0, or why it cannot be run. What Go's exec.LookPath makes of one candidate. */
static int runnable(const char *path)
{
	struct stat st;
	if (stat(path, &st) != 0) return errno;
	if (S_ISDIR(st.st_mode)) return EISDIR;
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0) return 0;
	if (errno != ENOSYS && errno != EPERM) return errno;
	return st.st_mode & 0111 ? 0 : EACCES;
}

static const char *find_program(const char *name)
{
	static char path[PATH_MAX];
	if (strchr(name, '/')) {
		int error = runnable(name);
		if (error == 0) return name;
		if (error == EACCES || error == EISDIR) fail("exec: \"%s\": %s", name, reason(error));
		fail("exec: \"%s\": stat %s: %s", name, name, reason(error));
	}
	const char *list = "";
	for (size_t i = 0; i < request.env_count; i++)
		if (strncmp(request.env[i], "PATH=", 5) == 0) list = request.env[i] + 5;
	while (name[0]) {
		size_t length = strcspn(list, ":");
		int n = snprintf(path, sizeof path, "%.*s%s%s", (int)length, list, length > 0 ? "/" : "", name);
		if (length > 0 && list[0] == '/' && n < (int)sizeof path && runnable(path) == 0) return path;
		if (!list[length]) break;
		list += length + 1;
	}
	fail("exec: \"%s\": executable file not found in $PATH", name);
}

__attribute__((noreturn)) static void become_program(void)
{
	join_cgroups();
	if (request.oom_score) write_text("/proc/self/oom_score_adj", request.oom_score);
	int apparmor = open_apparmor();
	if (setns(PIDFD, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) != 0)
		fail("join namespaces: %s", reason(errno));
	close(PIDFD);
	if (setsid() < 0) fail("setsid: %s", reason(errno));
	if (request.keyring && syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, request.keyring) < 0 && errno != ENOSYS)
		fail("unable to join session keyring: %s", reason(errno));
	if (request.tty) open_terminal();
	for (size_t i = 0; i < request.rlimit_count; i++)
		if (prlimit(0, (int)request.rlimits[i].resource, &request.rlimits[i].value, NULL) != 0)
			fail("error setting rlimit type %d: %s", request.rlimits[i].resource, reason(errno));
	give_stdio();
	umask(022);
	bool in_directory = change_directory(false);
	if (request.no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		fail("unable to set no new privileges: %s", reason(errno));
	apply_apparmor(apparmor);
	/* without no_new_privs this needs a capability, so it comes before they are dropped; else as late as can be */
	if (!request.no_new_privileges) install_filter();
	become_user(in_directory);
	const char *program = find_program(request.args[0]);
	if (request.no_new_privileges) install_filter();
	execve(program, request.args, request.env);
	fail("exec %s: %s", program, reason(errno));
}

/* ---- the two processes ------------------------------------------------------------------------------------------ */

static void restore_signals(void)
{
	for (int i = 1; i < 65; i++) signal(i, SIG_DFL);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Returns what the second process had to say; nothing: it has become the program. */
static size_t listen_to(int fd, char *text, size_t size)
{
	size_t have = 0;
	while (have < size) {
		ssize_t n = read(fd, text + have, size - have);
		if (n < 0 && errno == EINTR) continue;
		if (n <= 0) break;
		have += (size_t)n;
	}
	return have;
}

int main(int count, char **values)
{
	static char text[PATH_MAX + 512];
	int said[2];
	if (count < 4) return 2;
	/* seen from the container's pid namespace it must give nothing away */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (fcntl(PIDFD, F_SETFD, FD_CLOEXEC) != 0) fail("no descriptor of the container");
	restore_signals();
	read_request(values[1]);
	open_cgroups(values[2]);
	read_filter();
	if (request.tty && count > 4) connect_console(values[4]);
	if (request.tty && console_fd < 0) fail("no console socket");
	if (pipe2(said, O_CLOEXEC) != 0) fail("pipe: %s", reason(errno));
	int pid_fd = open(values[3], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (pid_fd < 0) fail("%s: %s", values[3], reason(errno));
	if (setns(PIDFD, CLONE_NEWPID) != 0) {
		if (errno == EINVAL || errno == EPERM) return UNSUPPORTED; /* before Linux 5.8, or another user namespace */
		fail("join namespaces: %s", reason(errno));
	}
	pid_t pid = fork_sibling();
	if (pid < 0) fail("fork: %s", reason(errno));
	if (pid == 0) {
		error_fd = said[1];
		close(said[0]);
		close(pid_fd);
		become_program();
	}
	close(said[1]);
	/* known before it runs: whoever ends this process ends that one as well */
	dprintf(pid_fd, "%d", (int)pid);
	close(pid_fd);
	size_t length = listen_to(said[0], text, sizeof text);
	if (length == 0) return 0;
	if (write(2, text, length) < 0) return 1;
	return 1;
}
