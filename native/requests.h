/*
 * Part of shim.c, included there once: what comes in on connections. Everything here may be hostile: frame.h has
 * checked the lengths, and each handler checks the rest.
 */
#ifndef LONGSHORE_REQUESTS_H
#define LONGSHORE_REQUESTS_H

static struct task *task_by_id(const uint8_t *id, size_t length)
{
	if (length == 0) return &init;
	for (unsigned i = 1; i < task_top; i++)
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
				"\"started_at\":\"%s\",\"oom\":%s,\"direct_exec\":%s,\"execs\":[",
				PROTOCOL_VERSION, config.id, config.run, (int)init.pid, started,
				oom.reported > 0 ? "true" : "false", config.exec_helper ? "true" : "false");
	const char *comma = "";
	for (unsigned i = 1; i < task_top; i++) {
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
	t->direct = request.direct;
	t->stdin_mode = request.stdin_open ? STDIN_ONCE : STDIN_NONE;
	t->size = (struct winsize){.ws_row = request.rows, .ws_col = request.columns};
	snprintf(t->id, sizeof t->id, "%s", request.id);
	snprintf(t->process_path, sizeof t->process_path, "%s", request.path);
	tasks[slot] = t;
	if (slot >= task_top) task_top = slot + 1;
	c->task = t;
	c->mask = request.stdin_open ? request.mask : request.mask & MASK_OUTPUT;
	t->client = c;
	if (task_launch(t)) return;
	char message[160];
	const char *program = t->direct ? "exec helper" : "runtime";
	int n = snprintf(message, sizeof message, "shim: cannot start the %s: %s", program, strerror(errno));
	task_failed(t, message, (size_t)n, t->direct ? EXEC_UNSUPPORTED : -1);
}

/* Hello comes first and once; which frames may follow depends on what the connection is. */
static void client_frame(struct client *c, const struct frame *f)
{
	bool hello = f->type >= FRAME_HELLO_ATTACH && f->type <= FRAME_HELLO_EXEC;
	bool streaming = c->role == ROLE_ATTACH || c->role == ROLE_EXEC;
	if (hello != (c->role == ROLE_NEW) || (f->type <= FRAME_STDIN_EOF && !streaming) ||
	    (f->type == FRAME_LOG_COMPRESSED && c->role != ROLE_CONTROL)) {
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
	case FRAME_LOG_COMPRESSED: log_compressed(f->body); break;
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

#endif
