/*
 * Part of shim.c, included there once: notices the OOM killer, by cgroup v1's eventfd or by v2's memory.events, and
 * counts its kills. In hybrid mode the memory controller is where v1 has it. Uses config, report() and channels.
 */
#ifndef LONGSHORE_OOM_H
#define LONGSHORE_OOM_H

static struct {
	bool v2;
	char directory[PATH_MAX]; /* of the memory controller; empty: not known */
	long reported;            /* kills told already */
	bool stalled;             /* v1 without a killer (--oom-kill-disable): it waits for memory, which was told */
	long long recheck_until_ms;
} oom;

static long oom_figure(const char *text, const char *name)
{
	size_t length = strlen(name);
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, length) == 0 && line[length] == ' ') return atol(line + length + 1);
	}
	return 0;
}

static void oom_check(void)
{
	char path[PATH_MAX + 32], text[2048] = "";
	if (!oom.directory[0]) return;
	snprintf(path, sizeof path, "%s/%s", oom.directory, oom.v2 ? "memory.events" : "memory.oom_control");
	read_text(AT_FDCWD, path, text, sizeof text);
	long kills = oom_figure(text, "oom_kill");
	bool stalled = !oom.v2 && oom_figure(text, "oom_kill_disable") == 1 && oom_figure(text, "under_oom") == 1;
	bool news = kills > oom.reported || (stalled && !oom.stalled);
	oom.stalled = stalled;
	if (kills > oom.reported) oom.reported = kills;
	if (news) report("{\"event\":\"oom\"}\n");
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

#endif
