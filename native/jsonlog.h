/*
 * Docker's json-file log lines, byte for byte as moby 28 writes them (daemon/logger/jsonfilelog/jsonlog and
 * daemon/logger/copier.go): {"log":"...\n","stream":"stdout","attrs":{...},"time":"..."}. Pure: no files in here.
 */
#ifndef LONGSHORE_JSONLOG_H
#define LONGSHORE_JSONLOG_H

#include <time.h>

#include "buffer.h"

#define LINE_MAX_BYTES 16384 /* the copier's buffer; a longer line becomes several entries without newline */
#define TIME_BYTES 40

/* Length of the valid UTF-8 sequence at s (as Go's utf8.DecodeRune sees it), 0 when it is not one. s[0] >= 0x80. */
static inline size_t utf8_length(const uint8_t *s, size_t n)
{
	uint8_t lowest = 0x80, highest = 0xBF; /* bounds of the second byte: no overlong forms, no surrogates */
	size_t length;
	if (s[0] >= 0xC2 && s[0] <= 0xDF) length = 2;
	else if (s[0] >= 0xE0 && s[0] <= 0xEF) length = 3;
	else if (s[0] >= 0xF0 && s[0] <= 0xF4) length = 4;
	else return 0;
	if (s[0] == 0xE0) lowest = 0xA0;
	if (s[0] == 0xED) highest = 0x9F;
	if (s[0] == 0xF0) lowest = 0x90;
	if (s[0] == 0xF4) highest = 0x8F;
	if (n < length || s[1] < lowest || s[1] > highest) return 0;
	for (size_t i = 2; i < length; i++)
		if ((s[i] & 0xC0) != 0x80) return 0;
	return length;
}

/* Bytes that stand for themselves in a JSON string as Go writes it. A table, because every logged byte passes here. */
#define PLAIN_FROM(b) ((b) >= 0x20 && (b) < 0x80 && (b) != '"' && (b) != '\\' && (b) != '<' && (b) != '>' && (b) != '&')
#define PLAIN_4(b) PLAIN_FROM(b), PLAIN_FROM((b) + 1), PLAIN_FROM((b) + 2), PLAIN_FROM((b) + 3)
#define PLAIN_16(b) PLAIN_4(b), PLAIN_4((b) + 4), PLAIN_4((b) + 8), PLAIN_4((b) + 12)
#define PLAIN_64(b) PLAIN_16(b), PLAIN_16((b) + 16), PLAIN_16((b) + 32), PLAIN_16((b) + 48)
static const bool json_plain[256] = {PLAIN_64(0), PLAIN_64(64), PLAIN_64(128), PLAIN_64(192)};

/* Writes at most 6 bytes for each byte of s. */
static inline uint8_t *json_escape_to(uint8_t *out, const uint8_t *s, size_t n)
{
	static const char hex[] = "0123456789abcdef";
	size_t i = 0;
	while (i < n) {
		size_t from = i;
		while (i < n && json_plain[s[i]]) i++;
		memcpy(out, s + from, i - from);
		out += i - from;
		if (i == n) break;
		uint8_t b = s[i];
		if (b >= 0x80) {
			size_t length = utf8_length(s + i, n - i);
			/* U+2028 and U+2029 end a line in JavaScript, so Go escapes them */
			bool separator = length == 3 && b == 0xE2 && s[i + 1] == 0x80 && (s[i + 2] & 0xFE) == 0xA8;
			if (length == 0) memcpy(out, "\\ufffd", 6), out += 6, i++;
			else if (separator) memcpy(out, s[i + 2] == 0xA8 ? "\\u2028" : "\\u2029", 6), out += 6, i += 3;
			else memcpy(out, s + i, length), out += length, i += length;
			continue;
		}
		*out++ = '\\';
		if (b == '"' || b == '\\') *out++ = b;
		else if (b == '\n') *out++ = 'n';
		else if (b == '\r') *out++ = 'r';
		else memcpy(out, "u00", 3), out[3] = (uint8_t)hex[b >> 4], out[4] = (uint8_t)hex[b & 15], out += 5;
		i++;
	}
	return out;
}

/* Appends s as a JSON string, quotes included. */
static inline bool json_append_string(struct buffer *b, const void *s, size_t n)
{
	if (n > SIZE_MAX / 8 || !buffer_reserve(b, n * 6 + 2)) return false;
	uint8_t *begin = b->data + b->start + b->length, *end = begin;
	*end++ = '"';
	if (n > 0) end = json_escape_to(end, s, n);
	*end++ = '"';
	b->length += (size_t)(end - begin);
	return true;
}

/* RFC 3339 with nanoseconds, trailing zeros cut, as Go's RFC3339Nano. Returns the length. */
static inline size_t time_format(char out[TIME_BYTES], struct timespec at)
{
	static time_t cached_second = -1; /* a log line costs one division instead of a calendar */
	static char cached[TIME_BYTES];
	static size_t cached_length;
	if (at.tv_sec != cached_second) {
		struct tm tm;
		gmtime_r(&at.tv_sec, &tm);
		cached_length = strftime(cached, sizeof cached, "%Y-%m-%dT%H:%M:%S", &tm);
		cached_second = at.tv_sec;
	}
	memcpy(out, cached, cached_length);
	size_t length = cached_length;
	if (at.tv_nsec > 0) {
		long rest = at.tv_nsec;
		out[length] = '.';
		for (int digit = 9; digit >= 1; digit--) out[length + (size_t)digit] = (char)('0' + rest % 10), rest /= 10;
		length += 10;
		while (out[length - 1] == '0') length--;
	}
	out[length++] = 'Z';
	out[length] = 0;
	return length;
}

/* One entry with its newline. `attributes` is a JSON object or empty. `newline`: the line ended with one. */
static inline bool jsonlog_entry(struct buffer *b, const char *stream, const uint8_t *line, size_t n, bool newline,
				 const char *attributes, struct timespec at)
{
	size_t attributes_length = strlen(attributes);
	if (!buffer_reserve(b, n * 6 + attributes_length + 128)) return false;
	uint8_t *begin = b->data + b->start + b->length, *out = begin;
#define PUT(text, length) (memcpy(out, text, length), out += (length))
	PUT("{\"log\":\"", 8);
	if (n > 0) out = json_escape_to(out, line, n);
	if (newline) PUT("\\n", 2);
	PUT("\",\"stream\":\"", 12);
	PUT(stream, 6); /* "stdout" and "stderr" are both six letters */
	PUT("\"", 1);
	if (attributes_length > 0) {
		PUT(",\"attrs\":", 9);
		PUT(attributes, attributes_length);
	}
	PUT(",\"time\":\"", 9);
	char time[TIME_BYTES];
	size_t time_length = time_format(time, at);
	PUT(time, time_length);
	PUT("\"}\n", 3);
#undef PUT
	b->length += (size_t)(out - begin);
	return true;
}

/* Cuts one stream into lines, and lines longer than the copier's buffer into pieces. */
struct line_splitter {
	uint8_t pending[LINE_MAX_BYTES];
	size_t have;
	bool in_long_line; /* a piece of this line was emitted; later pieces carry its time, as in moby */
	struct timespec long_line_at;
};

typedef void line_emit(void *context, const uint8_t *line, size_t n, bool newline, struct timespec at);

static inline struct timespec splitter_time(struct line_splitter *s)
{
	struct timespec now;
	if (s->in_long_line) return s->long_line_at;
	clock_gettime(CLOCK_REALTIME, &now);
	return now;
}

/* A piece that fills the buffer, or what is left when the stream ends: without newline. */
static inline void splitter_flush_piece(struct line_splitter *s, line_emit *emit, void *context)
{
	if (s->have == 0) return;
	s->long_line_at = splitter_time(s);
	s->in_long_line = true;
	emit(context, s->pending, s->have, false, s->long_line_at);
	s->have = 0;
}

static inline void splitter_feed(struct line_splitter *s, const uint8_t *data, size_t n, line_emit *emit, void *context)
{
	while (n > 0) {
		size_t room = LINE_MAX_BYTES - s->have;
		const uint8_t *newline = memchr(data, '\n', n < room ? n : room);
		if (newline) {
			size_t take = (size_t)(newline - data);
			const uint8_t *line = data;
			if (s->have > 0) {
				memcpy(s->pending + s->have, data, take);
				line = s->pending;
			}
			emit(context, line, s->have + take, true, splitter_time(s));
			s->have = 0;
			s->in_long_line = false;
			data += take + 1;
			n -= take + 1;
			continue;
		}
		size_t take = n < room ? n : room;
		memcpy(s->pending + s->have, data, take);
		s->have += take;
		data += take;
		n -= take;
		if (s->have == LINE_MAX_BYTES) splitter_flush_piece(s, emit, context);
	}
}

#endif
