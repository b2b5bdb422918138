/*
 * A growable byte queue: appended at the end, consumed at the front. Used for client queues, stdin, the log batch and
 * JSON lines. Every function that may need memory says false when there is none; callers then drop what they had in
 * hand instead of dying, because the shim must outlive a host that is short of memory.
 */
#ifndef LONGSHORE_BUFFER_H
#define LONGSHORE_BUFFER_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_KEEP (64u * 1024) /* an empty buffer above this gives its memory back */

struct buffer {
	uint8_t *data;
	size_t start, length, capacity;
};

static inline uint8_t *buffer_bytes(const struct buffer *b)
{
	return b->data ? b->data + b->start : NULL;
}

static inline void buffer_free(struct buffer *b)
{
	free(b->data);
	*b = (struct buffer){0};
}

/* Makes room for `more` bytes behind the last one. */
static inline bool buffer_reserve(struct buffer *b, size_t more)
{
	if (more > SIZE_MAX / 4 || b->length > SIZE_MAX / 4) return false;
	if (b->start + b->length + more <= b->capacity) return true;
	if (b->start > 0) {
		memmove(b->data, b->data + b->start, b->length);
		b->start = 0;
		if (b->length + more <= b->capacity) return true;
	}
	size_t capacity = b->capacity ? b->capacity : 512;
	while (capacity < b->length + more) capacity *= 2;
	uint8_t *data = realloc(b->data, capacity);
	if (!data) return false;
	b->data = data;
	b->capacity = capacity;
	return true;
}

static inline bool buffer_append(struct buffer *b, const void *bytes, size_t length)
{
	if (length == 0) return true;
	if (!buffer_reserve(b, length)) return false;
	memcpy(b->data + b->start + b->length, bytes, length);
	b->length += length;
	return true;
}

static inline void buffer_consume(struct buffer *b, size_t length)
{
	b->start += length;
	b->length -= length;
	if (b->length > 0) return;
	b->start = 0;
	if (b->capacity > BUFFER_KEEP) buffer_free(b);
}

__attribute__((format(printf, 2, 3))) static inline bool buffer_printf(struct buffer *b, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int needed = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (needed < 0 || !buffer_reserve(b, (size_t)needed + 1)) return false;
	va_start(arguments, format);
	vsnprintf((char *)b->data + b->start + b->length, (size_t)needed + 1, format, arguments);
	va_end(arguments);
	b->length += (size_t)needed;
	return true;
}

#endif
