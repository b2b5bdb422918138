/*
 * libFuzzer target for the log writer: any bytes become whole lines of valid UTF-8 JSON without control characters,
 * however the output was cut, and the pieces of a line never exceed the copier's buffer.
 */
#include <assert.h>

#include "../jsonlog.h"

static struct buffer lines;
static size_t taken;

static void emit(void *context, const uint8_t *line, size_t n, bool newline, struct timespec at)
{
	(void)context;
	(void)at;
	assert(n <= LINE_MAX_BYTES);
	taken += n + newline;
	assert(jsonlog_entry(&lines, "stdout", line, n, newline, "{\"tag\":\"x\"}", (struct timespec){1700000000, 120000000}));
}

static void check_line(const uint8_t *s, size_t n)
{
	static const char tail[] = "\",\"stream\":\"stdout\",\"attrs\":{\"tag\":\"x\"},\"time\":\"2023-11-14T22:13:20.12Z\"}";
	assert(n >= 8 + sizeof tail - 1 && memcmp(s, "{\"log\":\"", 8) == 0);
	assert(memcmp(s + n - (sizeof tail - 1), tail, sizeof tail - 1) == 0);
	const uint8_t *end = s + n - (sizeof tail - 1);
	for (s += 8; s < end;) {
		assert(*s >= 0x20 && *s != '"' && *s != '<' && *s != '>' && *s != '&');
		if (*s == '\\') {
			assert(s + 1 < end && strchr("\"\\nru", s[1]));
			s += s[1] == 'u' ? 6 : 2;
		} else if (*s < 0x80) {
			s++;
		} else {
			size_t length = utf8_length(s, (size_t)(end - s));
			assert(length > 0);
			s += length;
		}
	}
	assert(s == end);
}

static void feed(const uint8_t *data, size_t size, size_t piece)
{
	static struct line_splitter splitter;
	memset(&splitter, 0, sizeof splitter);
	taken = 0;
	for (size_t at = 0; at < size; at += piece)
		splitter_feed(&splitter, data + at, piece < size - at ? piece : size - at, emit, NULL);
	splitter_flush_piece(&splitter, emit, NULL);
	assert(taken == size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 3) return 0;
	size_t piece = 1 + data[0], repeat = data[1] % 64 ? 1 : 40; /* long lines now and then */
	struct buffer input = {0};
	for (size_t i = 0; i < repeat * 16 && repeat > 1; i++) buffer_append(&input, data + 2, size - 2);
	if (repeat == 1) buffer_append(&input, data + 2, size - 2);
	lines.length = lines.start = 0;
	feed(buffer_bytes(&input), input.length, piece);
	struct buffer first = {0};
	buffer_append(&first, buffer_bytes(&lines), lines.length);
	const uint8_t *s = buffer_bytes(&first), *end = s + first.length;
	while (s && s < end) {
		const uint8_t *newline = memchr(s, '\n', (size_t)(end - s));
		assert(newline);
		check_line(s, (size_t)(newline - s));
		s = newline + 1;
	}
	lines.length = lines.start = 0;
	feed(buffer_bytes(&input), input.length, input.length + 1);
	assert(lines.length == first.length && (first.length == 0 || memcmp(buffer_bytes(&lines), first.data, first.length) == 0));
	buffer_free(&first);
	buffer_free(&input);
	return 0;
}
