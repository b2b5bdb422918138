/*
 * The frames that the daemon sends: [u8 type][3 zero bytes][u32 big-endian length][payload]. See
 * docs/shim-protocol.md. Pure: bytes in, frames out; native/fuzz/ feeds it with garbage.
 *
 * stdin data is handed on piece by piece, whatever its length; every other payload is collected first and is at most
 * FRAME_BODY_MAX. What breaks the rules is FRAME_BAD, and the connection that sent it is closed.
 */
#ifndef LONGSHORE_FRAME_H
#define LONGSHORE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_HEADER 8
#define FRAME_BODY_MAX 8192

enum frame_type {
	FRAME_STDIN = 0,
	FRAME_STDIN_EOF = 1,
	FRAME_RESIZE = 2,
	FRAME_SIGNAL = 3,
	FRAME_HELLO_ATTACH = 4,
	FRAME_HELLO_CONTROL = 5,
	FRAME_HELLO_EXEC = 6,
	FRAME_LOG_COMPRESSED = 7,
};

struct frame_reader {
	uint8_t header[FRAME_HEADER];
	unsigned header_have;
	uint32_t left; /* payload bytes still to come */
	uint8_t *body; /* of a collected frame; owned */
	uint32_t body_have;
};

struct frame {
	uint8_t type;
	const uint8_t *body; /* valid until the next call */
	size_t length;
};

enum frame_status { FRAME_MORE, FRAME_READY, FRAME_BAD };

static inline void frame_reader_free(struct frame_reader *r)
{
	free(r->body);
	*r = (struct frame_reader){0};
}

/* False for a header that no daemon of version 1 would send. */
static inline bool frame_header_valid(const uint8_t *h, uint32_t length)
{
	if (h[1] || h[2] || h[3]) return false;
	switch (h[0]) {
	case FRAME_STDIN: return true;
	case FRAME_STDIN_EOF: return length == 0;
	case FRAME_RESIZE: return length >= 4 && length <= FRAME_BODY_MAX;
	case FRAME_SIGNAL: return length >= 1 && length <= FRAME_BODY_MAX;
	case FRAME_HELLO_ATTACH:
	case FRAME_HELLO_CONTROL: return length == 1;
	case FRAME_HELLO_EXEC: return length <= FRAME_BODY_MAX;
	case FRAME_LOG_COMPRESSED: return length == 8;
	default: return false;
	}
}

/* Takes from *in what belongs to the frame at hand. READY: `out` is a whole frame, or a piece of stdin. */
static inline enum frame_status frame_next(struct frame_reader *r, const uint8_t **in, size_t *in_length,
					   struct frame *out)
{
	if (r->header_have < FRAME_HEADER) {
		size_t take = FRAME_HEADER - r->header_have;
		if (take > *in_length) take = *in_length;
		if (take > 0) memcpy(r->header + r->header_have, *in, take);
		r->header_have += (unsigned)take;
		*in += take;
		*in_length -= take;
		if (r->header_have < FRAME_HEADER) return FRAME_MORE;
		r->left = (uint32_t)r->header[4] << 24 | (uint32_t)r->header[5] << 16 | (uint32_t)r->header[6] << 8 |
			  r->header[7];
		if (!frame_header_valid(r->header, r->left)) return FRAME_BAD;
		free(r->body);
		r->body = NULL;
		r->body_have = 0;
		if (r->header[0] != FRAME_STDIN && r->left > 0 && !(r->body = malloc(r->left))) return FRAME_BAD;
	}
	size_t take = r->left < *in_length ? r->left : *in_length;
	const uint8_t *piece = *in;
	*in += take;
	*in_length -= take;
	r->left -= (uint32_t)take;
	*out = (struct frame){.type = r->header[0], .body = piece, .length = take};
	if (r->header[0] == FRAME_STDIN) {
		if (r->left == 0) r->header_have = 0;
		else if (take == 0) return FRAME_MORE;
		return FRAME_READY;
	}
	if (take > 0) memcpy(r->body + r->body_have, piece, take);
	r->body_have += (uint32_t)take;
	if (r->left > 0) return FRAME_MORE;
	r->header_have = 0;
	out->body = r->body;
	out->length = r->body_have;
	return FRAME_READY;
}

/* Names that may stand in JSON and in a file's name as they are. */
static inline bool name_valid(const char *name, size_t length)
{
	if (length < 1 || length > 128 || name[0] == '.') return false;
	for (size_t i = 0; i < length; i++) {
		char c = name[i];
		bool ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
			  c == '-' || c == '.';
		if (!ok) return false;
	}
	return true;
}

#define EXEC_TTY 1
#define EXEC_STDIN 2
#define EXEC_DIRECT 4

/* Payload of FRAME_HELLO_EXEC: [u8 flags][u8 mask][u16 rows][u16 columns][exec id][NUL][absolute path]. */
struct exec_request {
	bool tty, stdin_open, direct;
	uint8_t mask;
	uint16_t rows, columns;
	char id[129];
	char path[4096];
};

static inline bool exec_request_parse(const uint8_t *body, size_t length, struct exec_request *out)
{
	if (length < 6) return false;
	if (body[0] & ~(EXEC_TTY | EXEC_STDIN | EXEC_DIRECT) || body[1] > 7) return false;
	out->tty = body[0] & EXEC_TTY;
	out->stdin_open = body[0] & EXEC_STDIN;
	out->direct = body[0] & EXEC_DIRECT;
	out->mask = body[1];
	out->rows = (uint16_t)(body[2] << 8 | body[3]);
	out->columns = (uint16_t)(body[4] << 8 | body[5]);
	const uint8_t *id = body + 6, *end = body + length;
	const uint8_t *nul = memchr(id, 0, (size_t)(end - id));
	if (!nul || !name_valid((const char *)id, (size_t)(nul - id))) return false;
	memcpy(out->id, id, (size_t)(nul - id) + 1);
	const uint8_t *path = nul + 1;
	size_t path_length = (size_t)(end - path);
	if (path_length < 2 || path_length >= sizeof out->path) return false;
	if (path[0] != '/' || memchr(path, 0, path_length)) return false;
	memcpy(out->path, path, path_length);
	out->path[path_length] = 0;
	return true;
}

#endif
