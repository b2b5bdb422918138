/*
 * Part of exec.c, included there once: what it was asked for, and how it says that something failed. The file is the
 * daemon's, so what does not fit is an error and not an attack; docs/shim-protocol.md, "Direct execs", has the format.
 */
#ifndef LONGSHORE_EXEC_REQUEST_H
#define LONGSHORE_EXEC_REQUEST_H

#define FILE_BYTES_MAX (16 * 1024 * 1024)
#define HIERARCHY_MAX 32
#define RLIMIT_MAX 32

/* As in FILE; the strings point into it. */
static struct {
	char **args, **env;
	size_t arg_count, env_count;
	const char *cwd, *apparmor, *oom_score, *seccomp_path, *keyring;
	uid_t uid;
	gid_t gid;
	gid_t groups[256];
	size_t group_count;
	uint64_t bounding, permitted, effective, inheritable, ambient;
	struct {
		int resource;
		struct rlimit value;
	} rlimits[RLIMIT_MAX];
	size_t rlimit_count;
	bool no_new_privileges, tty;
	struct winsize size;
	struct {
		const char *mount, *root, *key;
	} hierarchies[HIERARCHY_MAX];
	size_t hierarchy_count;
} request;

static int error_fd = 2;

/* The reason, in Go's words where users see it; then the end. */
__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
	char text[PATH_MAX + 512];
	va_list arguments;
	va_start(arguments, format);
	int n = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (n >= (int)sizeof text) n = sizeof text - 1;
	for (const char *at = text; n > 0;) {
		ssize_t written = write(error_fd, at, (size_t)n);
		if (written < 0 && errno == EINTR) continue;
		if (written <= 0) break;
		at += written;
		n -= (int)written;
	}
	_exit(1);
}

/* errno as Go prints it: lower case, and its own words for some. */
static const char *reason(int error)
{
	static char text[128];
	snprintf(text, sizeof text, "%s", strerror(error));
	if (error == ENOEXEC) return "exec format error";
	if (error == E2BIG) return "argument list too long";
	if (error == ELOOP) return "too many levels of symbolic links";
	if (error == ENAMETOOLONG) return "file name too long";
	if (error == ETXTBSY) return "text file busy";
	if (error == ENOENT) return "no such file or directory";
	if (text[0] >= 'A' && text[0] <= 'Z' && !(text[1] >= 'A' && text[1] <= 'Z') && text[1] != '/') text[0] += 'a' - 'A';
	return text;
}

static char *read_whole(int fd, size_t limit, size_t *length)
{
	size_t capacity = 16384, have = 0;
	char *data = malloc(capacity + 1);
	while (data) {
		ssize_t n = read(fd, data + have, capacity - have);
		if (n < 0 && errno == EINTR) continue;
		if (n <= 0) {
			if (n < 0) break;
			data[have] = 0;
			*length = have;
			return data;
		}
		have += (size_t)n;
		if (have < capacity) continue;
		if (capacity >= limit) break;
		char *more = realloc(data, capacity * 2 + 1);
		if (!more) break;
		data = more;
		capacity *= 2;
	}
	free(data);
	return NULL;
}

static unsigned long long number(const char *text, int base)
{
	char *end;
	errno = 0;
	unsigned long long value = strtoull(text, &end, base);
	if (errno || end == text || *end) fail("malformed exec request: %s", text);
	return value;
}

/* "name value value" cut in place at the spaces; the last part may hold further ones. */
static size_t split(char *text, char separator, char **parts, size_t count)
{
	size_t found = 0;
	while (found < count) {
		parts[found++] = text;
		char *at = found < count ? strchr(text, separator) : NULL;
		if (!at) break;
		*at = 0;
		text = at + 1;
	}
	return found;
}

static void parse_entry(char key, char *value)
{
	char *parts[3];
	switch (key) {
	case 'x': return; /* the daemon's own record */
	case 'v':
		if (strcmp(value, "1") != 0) fail("malformed exec request: version %s", value);
		return;
	case 'a': request.args[request.arg_count++] = value; return;
	case 'e': request.env[request.env_count++] = value; return;
	case 'd': request.cwd = value; return;
	case 'u': request.uid = (uid_t)number(value, 10); return;
	case 'g': request.gid = (gid_t)number(value, 10); return;
	case 'G':
		if (request.group_count == sizeof request.groups / sizeof *request.groups) fail("too many groups");
		request.groups[request.group_count++] = (gid_t)number(value, 10);
		return;
	case 'B': request.bounding = number(value, 16); return;
	case 'P': request.permitted = number(value, 16); return;
	case 'E': request.effective = number(value, 16); return;
	case 'I': request.inheritable = number(value, 16); return;
	case 'A': request.ambient = number(value, 16); return;
	case 'p': request.apparmor = value; return;
	case 'o': request.oom_score = value; return;
	case 's': request.seccomp_path = value; return;
	case 'k': request.keyring = value; return;
	case 'n': request.no_new_privileges = true; return;
	case 't':
		request.tty = true;
		if (split(value, ' ', parts, 2) != 2) fail("malformed exec request: size");
		request.size.ws_row = (unsigned short)number(parts[0], 10);
		request.size.ws_col = (unsigned short)number(parts[1], 10);
		return;
	case 'r':
		if (request.rlimit_count == RLIMIT_MAX || split(value, ' ', parts, 3) != 3) fail("malformed exec request: rlimit");
		request.rlimits[request.rlimit_count].resource = (int)number(parts[0], 10);
		request.rlimits[request.rlimit_count].value.rlim_cur = number(parts[1], 10);
		request.rlimits[request.rlimit_count++].value.rlim_max = number(parts[2], 10);
		return;
	case 'h':
		if (request.hierarchy_count == HIERARCHY_MAX || split(value, '\t', parts, 3) != 3)
			fail("malformed exec request: hierarchy");
		request.hierarchies[request.hierarchy_count].key = parts[0];
		request.hierarchies[request.hierarchy_count].root = parts[1];
		request.hierarchies[request.hierarchy_count++].mount = parts[2];
		return;
	default: fail("malformed exec request: key %c", key);
	}
}

/* [key][value][NUL]... */
static void read_request(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	size_t length = 0, entries = 0;
	char *text = fd >= 0 ? read_whole(fd, FILE_BYTES_MAX, &length) : NULL;
	if (!text) fail("%s: %s", path, reason(errno));
	close(fd);
	for (size_t i = 0; i < length; i++) entries += text[i] == 0;
	request.args = calloc(entries + 1, sizeof *request.args);
	request.env = calloc(entries + 1, sizeof *request.env);
	if (!request.args || !request.env) fail("%s", reason(ENOMEM));
	for (char *at = text; at < text + length;) {
		size_t size = strlen(at);
		if (at + size == text + length || size == 0) fail("malformed exec request: no end");
		parse_entry(at[0], at + 1);
		at += size + 1;
	}
	if (request.arg_count == 0 || !request.cwd || request.cwd[0] != '/') fail("malformed exec request: incomplete");
}

#endif
