/*
 * Part of shim.c, included there once: connections and their queues. What they may ask for is in requests.h; what they
 * get of a task's output is in streams.h. A client slot is free when its descriptor is -1.
 */
#ifndef LONGSHORE_CLIENTS_H
#define LONGSHORE_CLIENTS_H

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

#endif
