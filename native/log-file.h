/*
 * Part of shim.c, included there once: the container's log on disk. Batches, rotation, a disk that is full.
 * Writes what jsonlog.h formats; uses config, report() and now_ms().
 */
#ifndef LONGSHORE_LOG_FILE_H
#define LONGSHORE_LOG_FILE_H

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
	if (config.log_max_files == 2) { /* else it went on to .2 */
		snprintf(to, sizeof to, "%s.1.gz", config.log_path);
		unlink(to);
	}
	snprintf(to, sizeof to, "%s.1", config.log_path);
	if (config.log_max_files >= 2) rename(config.log_path, to);
	else unlink(config.log_path); /* a reader that follows keeps the old file; the new one has another inode */
	log_open(O_TRUNC);
}

/*
 * The daemon compressed the rotated file of this inode, beside it as path.INODE.tmp: it takes the file's place, whatever
 * the file is called by now. Only here, so that no rotation comes between. A file that is gone takes the copy with it.
 */
static void log_compressed(const uint8_t *body)
{
	unsigned long long inode = 0;
	for (int i = 0; i < 8; i++) inode = inode << 8 | body[i];
	if (!config.log_path) return;
	char plain[PATH_MAX + 32], copy[PATH_MAX + 32], to[PATH_MAX + 40];
	snprintf(copy, sizeof copy, "%s.%llu.tmp", config.log_path, inode);
	for (int i = 1; i < config.log_max_files; i++) {
		struct stat st;
		snprintf(plain, sizeof plain, "%s.%d", config.log_path, i);
		if (lstat(plain, &st) != 0 || st.st_ino != inode) continue;
		snprintf(to, sizeof to, "%s.gz", plain);
		if (rename(copy, to) == 0) unlink(plain);
		return;
	}
	unlink(copy);
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

#endif
