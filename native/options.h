/*
 * Part of shim.c, included there once: the command line. Every option has one value, but --tty; docs/shim-protocol.md has
 * the list. Fills config, init's own settings and the attached descriptors.
 */
#ifndef LONGSHORE_OPTIONS_H
#define LONGSHORE_OPTIONS_H

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
	if (IS("--claim")) return config.claim = value, name_valid(value, strlen(value));
	if (IS("--bundle")) return config.bundle = value, value[0] == '/';
	if (IS("--runtime")) return config.runtime = value, value[0] != 0;
	if (IS("--runtime-root")) return config.runtime_root = value, value[0] == '/';
	if (IS("--runtime-option"))
		return config.option_count < RUNTIME_OPTION_MAX && (config.options[config.option_count++] = value, true);
	if (IS("--exec-helper")) return config.exec_helper = value, value[0] == '/';
	if (IS("--cgroup")) return config.cgroup = value, value[0] == '/';
	if (IS("--log")) return config.log_path = value, value[0] == '/' && strlen(value) < PATH_MAX;
	if (IS("--log-max-size")) return NUMBER(0, 1LL << 62) && (config.log_max_size = number, true);
	if (IS("--log-max-files")) return NUMBER(1, 10000) && (config.log_max_files = (int)number, true);
	if (IS("--log-attributes")) return config.log_attributes = strcmp(value, "{}") ? value : "", true;
	if (IS("--rows")) return NUMBER(0, 65535) && (init.size.ws_row = (unsigned short)number, true);
	if (IS("--columns")) return NUMBER(0, 65535) && (init.size.ws_col = (unsigned short)number, true);
	if (IS("--stdin")) return parse_stdin_mode(value);
	if (IS("--attach")) return parse_attach(value);
	if (IS("--stdio-uid")) return NUMBER(0, UINT32_MAX - 1) && (config.stdio_uid = (uid_t)number, true);
	if (IS("--stdio-gid")) return NUMBER(0, UINT32_MAX - 1) && (config.stdio_gid = (gid_t)number, true);
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

#endif
