/*
 * Part of shim.c, included there once: a task's stdin, stdout and stderr, and the back pressure between them and the
 * clients. The rules are in docs/shim-protocol.md, "Stdin" and "Slow readers".
 */
#ifndef LONGSHORE_STREAMS_H
#define LONGSHORE_STREAMS_H

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

#endif
